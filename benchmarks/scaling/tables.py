"""Print the tables of docs/scaling.md from ddpo.csv, scoring.csv and growth.csv; `--write` writes them there.

python -m benchmarks.scaling.tables [--write]
"""

import argparse
from collections import defaultdict
from statistics import median

from benchmarks.results_file import put_table, read_rows
from benchmarks.scaling import ddpo, growth, scoring
from reward.cli.flags import ArgumentParser

PAGE = ddpo.RESULTS.parents[2] / "docs" / "scaling.md"
Rows = list[dict[str, str]]
_NAMES = {
    "metrics_row": ("the last row of `metrics.csv`", "epochs before it"),
    "prompt_statistics": ("per-prompt statistics, 8 pictures a prompt", "prompts"),
    "gathered": ("gathered scores to advantages", "pictures"),
    "drawing_prompts": ("drawing an epoch's prompts", "prompts in the list"),
    "seeds": ("a seed a picture", "pictures"),
    "random_states": ("random states in a checkpoint", "processes"),
}


def ddpo_table(rows: Rows) -> str:
    """One line per case. Seconds are CPU time; shares are of wall time."""
    lines = [
        "| changed | pictures | steps | pixels | CPU seconds (lowest to highest) | "
        "rollout / decode / reward / update, % | peak above start, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (axis, _), found in _grouped(rows, "axis", "value").items():
        whole = _median(found, "epoch_cpu_seconds")
        shares = " / ".join(f"{100 * median(float(r[part]) / float(r['seconds']) for r in found):.0f}"
                            for part in ddpo.PARTS)  # fmt: skip
        first = found[0]
        lines.append(
            f"| {axis} | {first['pictures']} | {first['steps']} | {first['resolution']} | {whole:.2f}{_range(found)} | "
            f"{shares} | {_above(found):.0f} |"
        )
    return "\n".join(lines)


def scoring_table(rows: Rows) -> str:
    """One line per number of rows."""
    lines = [
        "| rows | pictures | repeats | CPU seconds | rows a CPU second | peak above start, MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (pictures, size), found in _grouped(rows, "pictures", "rows").items():
        seconds = _median(found, "cpu_seconds")
        there = "there" if pictures == "there" else "none there"
        lines.append(f"| {int(size):,} | {there} | {len(found)} | {seconds:.1f} | {int(size) / seconds:,.0f} | "
                     f"{_above(found):.0f} |")  # fmt: skip
    return "\n".join(lines)


def growth_table(rows: Rows) -> str:
    """One line per part and size."""
    lines = ["| what | of how many | CPU seconds | KB | memory, MB |", "| --- | --- | --- | --- | --- |"]
    for (what, size), found in _grouped(rows, "what", "size").items():
        name, unit = _NAMES[what]
        size_kb = _median(found, "bytes") / 1024
        lines.append(f"| {name} | {int(size):,} {unit} | {_median(found, 'seconds'):.5f} | "
                     f"{f'{size_kb:,.0f}' if size_kb else ''} | {_above(found):.0f} |")  # fmt: skip
    return "\n".join(lines)


def _grouped(rows: Rows, *columns: str) -> dict[tuple[str, ...], Rows]:
    found: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        found[tuple(row[column] for column in columns)].append(row)
    return found


def _median(rows: Rows, column: str) -> float:
    return median(float(row[column]) for row in rows)


def _range(rows: Rows) -> str:
    values = [float(row["epoch_cpu_seconds"]) for row in rows]
    return f" ({min(values):.2f} to {max(values):.2f})"


def _above(rows: Rows) -> float:
    return median(float(row["peak_mb"]) - float(row["start_mb"]) for row in rows)


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into docs/scaling.md")
    arguments = parser.parse_args()
    makers = {ddpo: ddpo_table, scoring: scoring_table, growth: growth_table}
    measured = {module.RESULTS: make for module, make in makers.items() if module.RESULTS.exists()}
    for path, make in measured.items():
        name, table = f"scaling/{path.name}", make(read_rows(path))
        print(f"\n{name}\n{table}")
        if arguments.write:
            put_table(name, table, PAGE)


if __name__ == "__main__":
    main()
