"""Print the tables of benchmarks/README.md from results.csv and cone_widths.csv; `--write` writes them there.

python -m benchmarks.tinyworld_evaluator.tables [--write]
"""

import argparse
from statistics import mean

from benchmarks.results_file import put_table, read_rows
from benchmarks.tinyworld_evaluator.run import FULL, RESULTS, WIDTHS
from reward.cli.flags import ArgumentParser

Rows = list[dict[str, str]]


def results_table(rows: Rows) -> str:
    """Spearman of every scorer on held-out prompts, and the full model's gap over it."""
    lines = [
        "| score | Spearman, 95 % | weakest training seed | full model's gap, 95 % |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        gap = "" if row["row"] == FULL else "{:+.3f} [{:+.3f}, {:+.3f}]".format(
            *(float(row[name]) for name in ("gap_to_full", "gap_low", "gap_high"))
        )  # fmt: skip
        value, low, high, lowest = (float(row[name]) for name in ("spearman", "low", "high", "lowest_seed"))
        lines.append(f"| {row['row']} | {value:.3f} [{low:.3f}, {high:.3f}] | {lowest:.3f} | {gap} |")
    return "\n".join(lines)


def widths_table(rows: Rows) -> str:
    """Share of nested pairs whose broader prompt has the wider cone, one column per kind of pair; mean over seeds."""
    kinds = list(dict.fromkeys(row["drops"] for row in rows))
    lines = [
        f"| trained as | {' | '.join(f'without the {kind}' for kind in kinds)} | equal | spread of half-apertures |",
        f"| --- |{' --- |' * (len(kinds) + 2)}",
    ]
    for name in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == name]
        cells = []
        for kind in kinds:
            shares = [float(row["share_wider"]) for row in own if row["drops"] == kind]
            cells.append(f"{mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")
        pairs = [int(row["pairs"]) for row in own]
        equal = sum(n * float(row["share_equal"]) for n, row in zip(pairs, own, strict=True)) / sum(pairs)
        spread = mean(float(row["std_aperture"]) for row in own)
        lines.append(f"| {name} | {' | '.join(cells)} | {equal:.2f} | {spread:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    write = parser.parse_args().write
    for path, table in ((RESULTS, results_table), (WIDTHS, widths_table)):
        text = table(read_rows(path))
        print(text, end="\n\n")
        if write:
            put_table(f"tinyworld_evaluator/{path.name}", text)


if __name__ == "__main__":
    main()
