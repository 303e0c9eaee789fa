"""The tables of benchmarks/README.md from same_work.csv and speed.csv; `--write` puts them there.

python -m benchmarks.direct_vs_trl.tables [--write]
"""

from pathlib import Path
from statistics import median

from benchmarks.results_file import print_tables

FOLDER = Path(__file__).parent
NAMES = {"trl": "TRL 0.23.1", "ours": "ours", "ours, not checkpointed": "ours, not checkpointed"}
MEASURES = {
    "cpu_seconds": ".2f", "seconds": "", "sampling": "", "update": "", "peak_mb": ".0f", "above_ready_mb": ".0f",
}  # fmt: skip


def work_table(rows: list[dict]) -> str:
    """The gradients' distances and the UNet's rows, TRL's / ours."""
    lines = [
        "| guidance | steps trained of 20 | gradients differ by | with TRL's clamp in ours | rows forward, TRL / ours "
        "| those with a graph | rows backward |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        counts = (f"{row[f'trl_{name}']} / {row[f'ours_{name}']}" for name in ("forward", "with_graph", "backward"))
        lines.append(
            f"| {float(row['guidance']):g} | {row['depth']} | {row['difference']} | {row['same_clamp']} | "
            + " | ".join(counts) + " |"
        )  # fmt: skip
    return "\n".join(lines)


def speed_table(rows: list[dict]) -> str:
    """Medians over the repeats, and the medians of the ratios to TRL's turn."""
    sides: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for row in rows:
        row = row | {"above_ready_mb": float(row["peak_mb"]) - float(row["ready_mb"])}
        sides.setdefault((row["guidance"], row["depth"]), {}).setdefault(row["side"], []).append(row)
    lines = [
        "| guidance | steps trained of 20 | side | CPU, s | wall-clock | sampling | backward and optimiser "
        "| peak memory, MB | above the loaded trainer, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for guidance, depth in sorted(sides, key=lambda case: (-float(case[0]), int(case[1]))):
        case = sides[guidance, depth]
        for side in sorted(case, key=list(NAMES).index):
            cells = []
            for measure, pattern in MEASURES.items():
                middle = median(float(row[measure]) for row in case[side])
                against = "" if side == "trl" else f"{ratio(case[side], case['trl'], measure):.2f}x"
                # On a shared machine a median of wall-clock times says what else it did.
                cells.append(f"{middle:{pattern}} ({against})".replace(" ()", "") if pattern else against)
            lines.append(f"| {float(guidance):g} | {depth} | {NAMES[side]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(ours: list[dict], theirs: list[dict], measure: str) -> float:
    """Median of the ratios turn by turn: what slowed a turn slowed both."""
    return median(float(own[measure]) / float(other[measure]) for own, other in zip(ours, theirs, strict=True))


def main() -> None:
    """The command line."""
    print_tables(__doc__, FOLDER, {"same_work.csv": work_table, "speed.csv": speed_table})


if __name__ == "__main__":
    main()
