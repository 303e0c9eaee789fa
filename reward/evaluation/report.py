"""The files of an evaluation: tables as CSV, JSON and Markdown, a page, a scatter plot."""

import csv
import io
import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from reward.evaluation.page import page_html
from reward.evaluation.result import Evaluation
from reward.evaluation.scatter import draw_scatter
from reward.evaluation.tables import markdown
from reward.files.writing import write_text


def write_report(evaluation: Evaluation, folder: str | PathLike, scatter: bool = True) -> list[Path]:
    """Write results.csv (a line for a row and split), predictions.csv, summary.json, report.md, report.html, and
    scatter.png.

    Args:
        evaluation: summarised.
        folder: made if need be.
        scatter: write scatter.png, which needs matplotlib.

    Returns:
        the paths written.

    Raises:
        ImportError: no matplotlib, with `scatter`.
    """
    folder = Path(folder)
    columns = {**evaluation.pairs, **evaluation.predictions}
    runs = [list(run.values()) for run in evaluation.runs]
    paths = [
        write_text(folder / "results.csv", _csv(list(evaluation.runs[0]), runs)),
        write_text(folder / "predictions.csv", _csv(list(columns), zip(*columns.values(), strict=True))),
        write_text(folder / "summary.json", json.dumps(summary(evaluation), indent=2, allow_nan=False) + "\n"),
        write_text(folder / "report.md", markdown(evaluation)),
        write_text(folder / "report.html", page_html(evaluation)),
    ]
    return [*paths, draw_scatter(evaluation, folder / "scatter.png")] if scatter else paths


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """What summary.json holds; null where a figure is not defined."""
    return _plain(
        {
            "protocol": evaluation.protocol,
            "trained_on": evaluation.trained_on,
            "tested_on": evaluation.tested_on,
            "rows": [
                {"name": r.name, "control": r.is_control, "splits": r.splits, **r.means, "srcc_std": r.srcc_std,
                 "srcc_ci": [r.srcc_low, r.srcc_high]}
                for r in evaluation.rows
            ],
            "gaps": [
                {"row": g.row, "versus": g.versus, "srcc": g.srcc, "srcc_ci": [g.low, g.high]} for g in evaluation.gaps
            ],
            "notes": evaluation.notes,
        }
    )  # fmt: skip


def _csv(heads: list[str], rows: Any) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
