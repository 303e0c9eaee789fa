"""The chart of a probe: accuracy by layer, and how the attention over the image changes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from attention_refine.probes.layer_proposal import LayerProposal

_INK, _BLUE, _RED, _GREEN, _GREY = "#222222", "#1f5f8b", "#b5372b", "#3b7a3f", "#8a8a8a"


def draw_probe(
    masking: Sequence[dict[str, Any]],
    shift: Sequence[dict[str, Any]],
    proposal: "LayerProposal | None",
    metric: str,
    title: str,
    path: Path,
) -> Path:
    """Write the chart of a probe, whole or not at all. Returns `path`.

    Args:
        masking, shift: the rows of masking.csv and of attention_shift.csv.
        proposal: the layers to mark; None marks none.
        metric: name of the score, for the axis.
        title: title of the chart.
        path: file to write; its suffix (.png, .svg, .pdf) sets the format.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: matplotlib cannot write the suffix.
    """
    from reward.explanation.cone_picture import new_figure, save_figure

    figure = new_figure(11.5, 3.7)
    figure.set_layout_engine("constrained")
    accuracy, distance, share = figure.subplots(1, 3)
    depth = len(shift)
    _line(accuracy, masking, "accuracy", _BLUE)
    accuracy.set(xlabel="image zeroed from this layer on", ylabel=f"{metric}, %", ylim=(0, 104))
    accuracy.set_title("accuracy by layer", fontsize=10)
    _line(distance, shift, "step", _BLUE, "to the layer before")
    if proposal:
        _line(distance, shift, "to_post", _GREEN, f"to layer {proposal.post_layer} (post)")
    distance.set(xlabel="layer", ylabel="Hellinger distance", ylim=(0, None))
    distance.set_title("change of the attention over the image", fontsize=10)
    distance.legend(fontsize=8, frameon=False, loc="upper right")
    # room for the legend above the curves
    distance.set_ylim(0, 1.3 * distance.get_ylim()[1])
    _line(share, shift, "image_share", _BLUE)
    share.set(xlabel="layer", ylabel="share of attention, %")
    share.set_ylim(0, 1.1 * max(row["image_share_high"] for row in shift))
    share.set_title("attention on the image", fontsize=10)
    for axes in (accuracy, distance, share):
        _tidy(axes, depth)
    ticks = [*accuracy.get_xticks(), depth]
    accuracy.set_xticks(ticks, [*map(str, map(int, ticks[:-1])), "none"])
    if proposal:
        _mark(accuracy, proposal)
    figure.suptitle(title, fontsize=11, color=_INK)
    return save_figure(figure, Path(path))


def _line(
    axes: "Axes", rows: Sequence[dict[str, Any]], name: str, colour: str, label: str | None = None
) -> None:
    rows = [row for row in rows if name in row]
    keys = ("layer", name, f"{name}_low", f"{name}_high")
    x, middle, low, high = (np.array([row[key] for row in rows]) for key in keys)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, middle, "o-", color=colour, markersize=3.5, linewidth=1.4, label=label)


def _tidy(axes: "Axes", count: int) -> None:
    step = max(1, round(count / 9))
    axes.set_xticks(range(0, count, step))
    axes.set_xlim(-0.4, None)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark(axes: "Axes", proposal: "LayerProposal") -> None:
    """Mark the candidate, post and review layers on a line below the curve."""
    marks = {
        "candidates": (proposal.candidate_layers, "^", _RED),
        "post": ([proposal.post_layer], "s", _GREEN),
        "review": ([proposal.review_layer], "D", _BLUE),
    }
    for name, (layers, marker, colour) in marks.items():
        axes.plot(list(layers), [3] * len(layers), marker, color=colour, markersize=6, label=name, clip_on=False)
    axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.06))
