"""An evaluation as tables: on the terminal, and as GitHub Markdown."""

import math
from typing import Any

from reward.evaluation.result import Evaluation, Row
from reward.statistics.correlations import STATISTICS

HEADS = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC",
    "plcc_logistic": "PLCC logistic",
    "pairwise_accuracy": "pairs in order",
    "within_prompt_srcc": "SRCC in a prompt",
}
LEGEND = (
    "Means over test splits; SRCC with its deviation between splits and, in brackets, a 95 % interval over prompts "
    "(bootstrap; the luck of training is not in it). PLCC logistic: after a rising 4-parameter logistic fitted to the "
    "test pairs. SRCC in a prompt: among the pictures of one prompt, where knowing the prompt alone does not help. "
    "Rows in italics are controls: no score that reads the pair should be near them."
)


def markdown(evaluation: Evaluation) -> str:
    """The tables as GitHub Markdown."""
    lines = [f"# {title(evaluation)}", "", f"| row | {' | '.join(HEADS.values())} |"]
    lines.append("|---|" + "---:|" * len(HEADS))
    for row in evaluation.rows:
        name = f"*{_escaped(row.name)}*" if row.is_control else _escaped(row.name)
        lines.append(f"| {name} | {' | '.join(_cells(row))} |")
    lines += ["", LEGEND]
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
        (title(evaluation), ["row", *HEADS.values()], [[row.name, *_cells(row)] for row in evaluation.rows]),
        ("Gaps in SRCC", ["of", "above that of", "by", "95 % interval"], [
            [g.row, g.versus, _number(g.srcc, True), f"[{_number(g.low, True)}, {_number(g.high, True)}]"]
            for g in evaluation.gaps
        ]),
    ]  # fmt: skip
    try:
        from rich.console import Console
    except ImportError:
        for name, heads, rows in tables:
            print(f"{name}\n{_aligned([heads, *rows])}\n", file=file)
    else:
        console = Console(file=file, markup=False, highlight=False)
        for name, heads, rows in tables:
            console.print(_rich_table(name, heads, rows))
    for line in (LEGEND.replace("in italics", "named after a twin, a ridge or shuffling"), *evaluation.notes):
        print(line, file=file)


def title(evaluation: Evaluation) -> str:
    """The protocol and the data sets, in one line."""
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


def _rich_table(name: str, heads: list[str], rows: list[list[str]]) -> Any:
    from rich.table import Table

    table = Table(title=name)
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


