"""Draw curves.csv, and DDPO's runs of ../direct/curves.csv: held-out oracle against pictures and UNet evaluations.

python -m benchmarks.forward.chart
"""

from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: E402

from benchmarks.direct.chart import band  # noqa: E402
from benchmarks.direct.run import CURVES as DDPO_CURVES  # noqa: E402
from benchmarks.forward.run import CURVES, SETTINGS  # noqa: E402
from benchmarks.results_file import read_rows  # noqa: E402

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "forward-process.png"
COLOURS = {"ddpo": "#222222", "nft": "#2f6fd0", "matching": "#2f9e62", "dpo": "#8a4fbf", "direct": "#c8372d"}
AXES = (
    ("reward_queries", "pictures scored (log)"), ("denoiser_evaluations", "UNet evaluations, forward (log)"),
)  # fmt: skip


def main() -> None:
    """Draw and write the picture."""
    curves: dict[str, dict[str, dict[str, list[dict]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in read_rows(CURVES):
        curves[row["setting"]][row["rule"]][row["seed"]].append(row)
    for row in read_rows(DDPO_CURVES):
        if (row["name"], row["method"]) == ("default", "ddpo"):
            curves["few"]["ddpo"][row["seed"]].append(row)
    settings = [setting for setting in SETTINGS if setting in curves]
    figure, axes = plt.subplots(
        len(settings), len(AXES), figsize=(10.5, 4.3 * len(settings)), constrained_layout=True, squeeze=False
    )
    for line, setting in zip(axes, settings, strict=True):
        for axis, (column, title) in zip(line, AXES, strict=True):
            for rule in [rule for rule in COLOURS if rule in curves[setting]]:
                runs = curves[setting][rule]
                x, middle, low, high = band(runs, column, "oracle")
                label = f"{rule}, {len(runs)} seed{'s' if len(runs) > 1 else ''}"
                axis.plot(x, middle, color=COLOURS[rule], label=label, linewidth=1.8)
                axis.fill_between(x, low, high, color=COLOURS[rule], alpha=0.13, linewidth=0)
            axis.set(xlabel=title, xscale="log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(f"held-out oracle, {SETTINGS[setting].steps} steps, guidance 1")
        line[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.suptitle("Update rules in the tiny world: mean over seeds, lowest to highest", fontsize=11)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(f"Wrote {PICTURE}.")


if __name__ == "__main__":
    main()
