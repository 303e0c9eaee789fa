"""Predicted against human scores as a PNG picture; `reward.pages.scatter_chart` draws the same into the page."""

import math
from os import PathLike
from pathlib import Path

from reward.evaluation.result import Evaluation
from reward.evaluation.tables import title
from reward.files.writing import write_whole


def draw_scatter(evaluation: Evaluation, path: str | PathLike) -> Path:
    """Predicted against human scores of each row that is no control; returns `path`.

    Raises:
        ImportError: no matplotlib; how to install it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Expected matplotlib for the scatter plot: pip install 'hyperalign[plot]'") from error
    names = [row.name for row in evaluation.rows if not row.is_control]
    across = min(len(names), 4)
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(3.6 * across, 3.4 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axis, row in zip(axes, (row for row in evaluation.rows if not row.is_control), strict=False):
        axis.scatter(evaluation.predictions[row.name], evaluation.pairs["human"], s=5, alpha=0.35, linewidths=0)
        axis.set_title(f"{row.name}\nSRCC {row.means['srcc']:.3f}", fontsize=9)
        axis.set_xlabel("predicted", fontsize=8)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis in axes[::across]:
        axis.set_ylabel("human score", fontsize=8)
    figure.suptitle(title(evaluation), fontsize=10)
    return write_whole(
        Path(path), lambda temporary: FigureCanvasAgg(figure).print_figure(temporary, dpi=140, format="png")
    )
