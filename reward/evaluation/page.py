"""The HTML page of an evaluation: tables and a scatter plot for each row, laid out by `templates/evaluation.html`."""

import numpy as np

from reward.evaluation.result import Evaluation
from reward.evaluation.tables import HEADS, LEGEND, title
from reward.pages.chart import Chart
from reward.pages.formatting import number
from reward.pages.rendering import render
from reward.pages.scatter_chart import MOST_POINTS, scatter_chart


def page_html(evaluation: Evaluation) -> str:
    """The page: what report.md says, and predicted against human scores of every row that is no control.

    Args:
        evaluation: summarised.
    """
    pairs = len(evaluation.pairs["human"])
    return render(
        "reward/evaluation/templates/evaluation.html",
        title=title(evaluation),
        facts=[
            ("protocol", evaluation.protocol),
            ("trained on", evaluation.trained_on),
            ("tested on", evaluation.tested_on),
            ("test pairs", pairs),
            ("prompts", len(set(evaluation.pairs["prompt"]))),
            ("splits", max(row.splits for row in evaluation.rows)),
        ],
        heads=HEADS,
        legend=LEGEND,
        rows=evaluation.rows,
        gaps=evaluation.gaps,
        notes=evaluation.notes,
        charts=_charts(evaluation),
        every=-(-pairs // MOST_POINTS),
    )


def _charts(evaluation: Evaluation) -> list[Chart]:
    charts = []
    for row in evaluation.rows:
        predicted = evaluation.predictions[row.name]
        if not row.is_control and np.isfinite(predicted).any():
            label = f"human score; SRCC {number(row.means['srcc'])}"
            human = evaluation.pairs["human"]
            charts.append(scatter_chart(predicted, human, title=row.name, x_label="predicted", y_label=label))
    return charts
