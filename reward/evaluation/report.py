"""An evaluation as a table on the terminal, Markdown, CSV, JSON and a scatter plot."""

import csv
import io
import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from reward.evaluation.result import Evaluation, Row
from reward.files.writing import write_text, write_whole
from reward.statistics.correlations import STATISTICS

_HEADS = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC",
    "plcc_logistic": "PLCC logistic",
    "pairwise_accuracy": "pairs in order",
    "within_prompt_srcc": "SRCC in a prompt",
}
_LEGEND = (
    "Means over test splits; SRCC with its deviation between splits and, in brackets, a 95 % interval over prompts "
    "(bootstrap; the luck of training is not in it). PLCC logistic: after a rising 4-parameter logistic fitted to the "
    "test pairs. SRCC in a prompt: among the pictures of one prompt, where knowing the prompt alone does not help. "
    "Rows in italics are controls: no score that reads the pair should be near them."
)


def write_report(evaluation: Evaluation, folder: str | PathLike, scatter: bool = True) -> list[Path]:
    """Write results.csv (a line for a row and split), predictions.csv, summary.json, report.md and scatter.png.

    Args:
        evaluation: summarised.
        folder: made if need be.
        scatter: without it matplotlib is not needed.

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


def markdown(evaluation: Evaluation) -> str:
    """The tables as GitHub Markdown."""
    lines = [f"# {_title(evaluation)}", "", f"| row | {' | '.join(_HEADS.values())} |"]
    lines.append("|---|" + "---:|" * len(_HEADS))
    for row in evaluation.rows:
        name = f"*{_escaped(row.name)}*" if row.is_control else _escaped(row.name)
        lines.append(f"| {name} | {' | '.join(_cells(row))} |")
    lines += ["", _LEGEND]
    if evaluation.gaps:
        lines += ["", "| SRCC of | above that of | by | 95 % interval |", "|---|---|---:|---|"]
        for gap in evaluation.gaps:
            low, high = _number(gap.low, True), _number(gap.high, True)
            names = f"| {_escaped(gap.row)} | {_escaped(gap.versus)} "
            lines.append(f"{names}| {_number(gap.srcc, True)} | [{low}, {high}] |")
    lines += ["", *(f"- {note}" for note in evaluation.notes)] if evaluation.notes else []
    return "\n".join(lines) + "\n"


def print_report(evaluation: Evaluation, file: Any = None) -> None:
    """The tables on the terminal: by rich where it is installed, plain otherwise."""
    tables = [
        (_title(evaluation), ["row", *_HEADS.values()], [[row.name, *_cells(row)] for row in evaluation.rows]),
        ("Gaps in SRCC", ["of", "above that of", "by", "95 % interval"], [
            [g.row, g.versus, _number(g.srcc, True), f"[{_number(g.low, True)}, {_number(g.high, True)}]"]
            for g in evaluation.gaps
        ]),
    ]  # fmt: skip
    try:
        from rich.console import Console
    except ImportError:
        for title, heads, rows in tables:
            print(f"{title}\n{_aligned([heads, *rows])}\n", file=file)
    else:
        console = Console(file=file, markup=False, highlight=False)
        for title, heads, rows in tables:
            console.print(_rich_table(title, heads, rows))
    for line in (_LEGEND.replace("in italics", "named after a twin, a ridge or shuffling"), *evaluation.notes):
        print(line, file=file)


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
    figure.suptitle(_title(evaluation), fontsize=10)
    return write_whole(
        Path(path), lambda temporary: FigureCanvasAgg(figure).print_figure(temporary, dpi=140, format="png")
    )


def _title(evaluation: Evaluation) -> str:
    if evaluation.trained_on == evaluation.tested_on:
        return f"{evaluation.protocol}: {evaluation.tested_on}"
    return f"{evaluation.protocol}: trained on {evaluation.trained_on}, tested on {evaluation.tested_on}"


def _cells(row: Row) -> list[str]:
    spread = "" if math.isnan(row.srcc_std) else f" ± {row.srcc_std:.3f}"
    first = f"{_number(row.means['srcc'])}{spread} [{_number(row.srcc_low)}, {_number(row.srcc_high)}]"
    return [first, *(_number(row.means[name]) for name in STATISTICS[1:])]


def _number(value: float, signed: bool = False) -> str:
    return "undefined" if math.isnan(value) else f"{value:{'+' if signed else ''}.3f}"


def _escaped(name: str) -> str:
    return name.replace("|", "\\|")


def _rich_table(title: str, heads: list[str], rows: list[list[str]]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


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
