"""The training curves in the report: one chart per column of metrics.csv with at least two points."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from reward.pages.chart import LARGEST, Chart
from reward.pages.line_chart import Line, line_chart

Metrics = Mapping[int, Mapping[str, float]]

# rewards and evaluations; "reward_queries" counts calls
_SHOWN_FIRST = re.compile(r"reward(_mean)?$|reward/|eval/")


@dataclass(frozen=True)
class TrainingCurves:
    """Charts that the report shows at first, and charts that it folds away."""

    first: list[Chart]
    folded: list[Chart]


def training_curves(metrics: Metrics, *, panel: bool) -> TrainingCurves | None:
    """The charts, in the order of the columns; None if there is nothing to draw.

    Args:
        metrics: epoch -> name -> value.
        panel: whether the report has the reward-hacking panel, which shows the evaluations already.
    """
    names = list(dict.fromkeys(name for row in metrics.values() for name in row))
    if panel:
        names = [name for name in names if not name.startswith("eval/")]
    terms = [name for name in names if name.startswith("reward/")]
    if len(terms) == 1:  # a single term is reward_mean again, up to its weight
        names.remove(terms[0])
    stds = {name: name.removesuffix("_mean") + "_std" for name in names if name.endswith("_mean")}
    spreads = {name: std for name, std in stds.items() if std in names}
    first, folded = [], []
    for name in names:
        chart = None if name in spreads.values() else _chart(metrics, name, spreads.get(name))
        if chart:
            (first if _SHOWN_FIRST.match(name) else folded).append(chart)
    return TrainingCurves(first, folded) if first or folded else None


def _chart(metrics: Metrics, name: str, spread: str | None) -> Chart | None:
    rows = [(step, row) for step, row in metrics.items() if abs(row.get(name, math.nan)) < LARGEST]
    points = [(step, row[name], row.get(spread, 0.0) if spread else 0.0) for step, row in rows]
    if len(points) < 2:
        return None
    steps, values, deviations = zip(*points, strict=True)
    line = Line(name, steps, values, deviations if spread else None)
    return line_chart([line], title=name, x_label="epoch", y_label="mean ± deviation" if spread else "")
