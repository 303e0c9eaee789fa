"""The sweeps after training in the report: over the guidance scale and over the strength of the LoRA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward.pages.chart import LARGEST, Chart
from reward.pages.line_chart import Line, line_chart
from rl.report.comparison import SIDES, scale, short_name


@dataclass(frozen=True)
class SweepRow:
    """One line of the table; `chosen`: this guidance scale was used in the comparison."""

    side: str
    guidance: str
    values: list[Any]
    chosen: bool


@dataclass(frozen=True)
class GuidanceSweep:
    """One chart per reward over guidance scales, and the same numbers as a table."""

    columns: list[str]
    rows: list[SweepRow]
    charts: list[Chart]


def guidance_sweep(evaluation: Mapping[str, Any]) -> GuidanceSweep | None:
    """The guidance sweep of evaluation.json; None if there was none."""
    rows = evaluation.get("sweep", [])
    if not rows:
        return None
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in ("model", "guidance")))
    table = []
    for row in rows:
        side, guidance = row.get("model"), row.get("guidance")
        chosen = guidance == evaluation.get(f"guidance_{side}")
        values = [row.get(name) for name in columns]
        table.append(SweepRow(str(SIDES.get(side, side)), scale(guidance), values, chosen))
    charts = [chart for name in columns if (chart := _sweep_chart(rows, name))]
    return GuidanceSweep([short_name(name) for name in columns], table, charts)


def lora_scales(evaluation: Mapping[str, Any]) -> list[Chart]:
    """One chart per reward over strengths of the LoRA; empty if only one was tried."""
    rows = sorted(evaluation.get("lora_scales", []), key=lambda row: row["scale"])
    return [_strength_chart(rows, name) for name in (rows[0] if rows else ()) if name != "scale"]


def _sweep_chart(rows: Sequence[Mapping[str, Any]], name: str) -> Chart | None:
    lines = []
    for side, label in SIDES.items():
        points = sorted((r["guidance"], r[name]) for r in rows if r.get("model") == side and r.get(name) is not None)
        if points:
            lines.append(Line(label, *zip(*points, strict=True), smooth=False))
    if not any(abs(y) < LARGEST for line in lines for y in line.y):
        return None
    return line_chart(
        lines, title=short_name(name), x_label="guidance scale", y_label="mean over prompts", whole_x=False
    )


def _strength_chart(rows: Sequence[Mapping[str, Any]], name: str) -> Chart:
    line = Line("LoRA", [row["scale"] for row in rows], [row[name] for row in rows], smooth=False)
    return line_chart(
        [line], title=short_name(name), x_label="strength of the LoRA", y_label="mean over prompts", whole_x=False
    )
