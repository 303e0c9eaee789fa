"""Draw curves.csv: oracle against reward queries, UNet evaluations and seconds; reward against oracle.

python -m benchmarks.direct.chart
"""

from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: E402

from benchmarks.direct.run import CURVES, METHODS  # noqa: E402
from benchmarks.results_file import read_rows  # noqa: E402

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "ddpo-or-direct.png"
COLOURS = dict(zip(METHODS, ("#222222", "#c8372d", "#2f6fd0", "#e07b00", "#8a4fbf", "#2f9e62", "#b08900"), strict=True))
AXES = (
    ("reward_queries", "pictures scored (log)"), ("denoiser_evaluations", "UNet evaluations, forward (log)"),
    ("train_seconds", "seconds of training, one CPU core (log; undisturbed seeds)"),
)  # fmt: skip
# The other runs shared their CPU core with other work and took up to three times as long.
UNDISTURBED = {"ddpo": ("5", "6")} | dict.fromkeys(METHODS.keys() - {"ddpo", "draft-2"}, ("2", "3"))


def main() -> None:
    """Draw and write the picture."""
    curves: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows(CURVES):
        if row["name"] == "default":
            curves[row["method"]][row["seed"]].append(row)
    methods = [method for method in METHODS if method in curves]
    figure, axes = plt.subplots(2, 2, figsize=(11.5, 8.2), constrained_layout=True)
    for axis, (column, title) in zip(axes.flat, AXES, strict=False):
        for method in methods:
            runs = curves[method]
            if column == "train_seconds":
                runs = {seed: runs[seed] for seed in UNDISTURBED.get(method, runs)}
            x, middle, low, high = band(runs, column, "oracle")
            seeds = len(curves[method])
            label = f"{method}, {seeds} seed{'s' if seeds > 1 else ''}"
            axis.plot(x, middle, color=COLOURS[method], label=label, linewidth=1.8)
            axis.fill_between(x, low, high, color=COLOURS[method], alpha=0.13, linewidth=0)
        axis.set(xlabel=title, ylabel="held-out oracle", xscale="log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis = axes.flat[3]
    for method in methods:
        # Start at the first saved LoRA. The base model is the same for all and far to the lower left.
        path = mean_path(curves[method])[1:]
        axis.plot(*path.T, color=COLOURS[method], marker=".", linewidth=1.2)
        axis.plot(*path[-1], color=COLOURS[method], marker="o", markersize=6)
    axis.set(xlabel="held-out reward (what is trained, on other prompts)", ylabel="held-out oracle")
    axes.flat[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.suptitle("DDPO and direct backpropagation, tiny world: mean over seeds, lowest to highest", fontsize=11)
    for axis in axes.flat:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(f"Wrote {PICTURE}.")


def band(seeds: dict[str, list[dict]], column: str, value: str) -> tuple[np.ndarray, ...]:
    """Mean, minimum and maximum over seeds, from the first saved LoRA to the end of the shortest run."""
    series = [([float(row[column]) for row in rows], [float(row[value]) for row in rows]) for rows in seeds.values()]
    x = np.geomspace(max(places[1] for places, _ in series), min(places[-1] for places, _ in series), 60)
    values = np.array([np.interp(x, places, found) for places, found in series])
    return x, values.mean(0), values.min(0), values.max(0)


def mean_path(seeds: dict[str, list[dict]]) -> np.ndarray:
    """Reward and oracle (points, 2), mean over seeds at each point."""
    paths = [np.array([[float(row["reward"]), float(row["oracle"])] for row in rows]) for rows in seeds.values()]
    shortest = min(map(len, paths))
    return np.mean([path[:shortest] for path in paths], axis=0)


if __name__ == "__main__":
    main()
