"""curves.csv as pictures: oracle against reward queries, UNet evaluations and seconds; reward against oracle.

python -m benchmarks.direct.chart
"""

from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.direct.run import METHODS, read_rows  # noqa: E402

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "ddpo-or-direct.png"
COLOURS = dict(zip(METHODS, ("#222222", "#2f6fd0", "#e07b00", "#b08900", "#8a4fbf", "#2f9e62", "#c8372d"), strict=True))
AXES = (
    ("reward_queries", "pictures scored"), ("unet_evaluations", "UNet evaluations, forward"),
    ("train_seconds", "seconds on one CPU core"),
)  # fmt: skip


def main() -> None:
    """Draw and write the picture."""
    curves: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows():
        curves[row["method"]][row["seed"]].append(row)
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), constrained_layout=True)
    for axis, (column, label) in zip(axes.flat, AXES, strict=False):
        for method, seeds in curves.items():
            x, middle, low, high = band(seeds, column, "oracle")
            axis.plot(x, middle, color=COLOURS[method], label=method, linewidth=1.8)
            axis.fill_between(x, low, high, color=COLOURS[method], alpha=0.15, linewidth=0)
        axis.set(xlabel=label, ylabel="held-out oracle")
    axis = axes.flat[3]
    for method, seeds in curves.items():
        rows = [np.array([[float(row["reward"]), float(row["oracle"])] for row in seed]) for seed in seeds.values()]
        path = np.mean([row[: min(map(len, rows))] for row in rows], axis=0)
        axis.plot(*path.T, color=COLOURS[method], label=method, marker=".", linewidth=1.2)
    axis.set(xlabel="held-out reward", ylabel="held-out oracle")
    axes.flat[0].legend(frameon=False, fontsize=9)
    for axis in axes.flat:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(f"Wrote {PICTURE}.")


def band(seeds: dict[str, list[dict]], column: str, value: str) -> tuple[np.ndarray, ...]:
    """Mean, minimum and maximum over seeds, at places that all seeds reach."""
    series = [([float(row[column]) for row in rows], [float(row[value]) for row in rows]) for rows in seeds.values()]
    x = np.linspace(0, min(places[-1] for places, _ in series), 60)
    values = np.array([np.interp(x, places, found) for places, found in series])
    return x, values.mean(0), values.min(0), values.max(0)


if __name__ == "__main__":
    main()
