"""Print the tables of benchmarks/README.md from rows_summary.json and sweeps_summary.json; --write writes them there.

python -m benchmarks.agiqa3k.tables [--write]
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.results_file import put_table
from reward.cli.flags import ArgumentParser

HERE = Path(__file__).parent


def rows_table(found: Mapping[str, Any]) -> str:
    """Each row's statistics, the gap of each row "+ ..." over the row before, and the full model's gap over each row.

    Args:
        found: rows_summary.json.
    """
    full = _full(found)
    gaps = {(gap["row"], gap["versus"]): gap for gap in found["gaps"]}
    steps = {row: gap for (row, _), gap in gaps.items() if row.startswith("+")}
    lines = [
        "| row | SRCC, mean ± deviation over splits, 95 % by prompt | above the row before, 95 % | full model above "
        "it, 95 % | SRCC in a prompt | KRCC | PLCC | PLCC logistic | pairs in order |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found["rows"]:
        name = f"*{row['name']}*" if row["control"] else row["name"]
        low, high = row["srcc_ci"]
        # no deviation for a single split
        spread = "" if row["srcc_std"] is None else f" ± {row['srcc_std']:.3f}"
        cells = [f"{row['srcc']:.3f}{spread} [{low:.3f}, {high:.3f}]"]
        cells += [_gap(steps.get(row["name"])), _gap(gaps.get((full, row["name"])))]
        statistics = ("within_prompt_srcc", "krcc", "plcc", "plcc_logistic", "pairwise_accuracy")
        lines.append(f"| {' | '.join([name, *cells, *(f'{row[s]:.3f}' for s in statistics)])} |")
    return "\n".join(lines)


def sweeps_table(found: Mapping[str, Any]) -> str:
    """SRCC of each setting and its paired difference to the full model, with intervals over prompts.

    Args:
        found: sweeps_summary.json.
    """
    full = _full(found)
    gaps = {gap["versus"]: gap for gap in found["gaps"] if gap["row"] == full}
    lines = ["| setting | SRCC | above the full model, 95 % | SRCC in a prompt |", "| --- | --- | --- | --- |"]
    for row in found["rows"]:
        if row["control"]:
            continue
        gap = gaps.get(row["name"])
        # turned: the setting minus the full model
        turned = gap and {"srcc": -gap["srcc"], "srcc_ci": [-bound for bound in reversed(gap["srcc_ci"])]}
        lines.append(f"| {row['name']} | {row['srcc']:.4f} | {_gap(turned)} | {row['within_prompt_srcc']:.4f} |")
    return "\n".join(lines)


def _full(found: Mapping[str, Any]) -> str:
    return [row["name"] for row in found["rows"] if not row["control"]][-1]


def _gap(gap: Mapping[str, Any] | None) -> str:
    return "" if not gap else f"{gap['srcc']:+.4f} [{gap['srcc_ci'][0]:+.4f}, {gap['srcc_ci'][1]:+.4f}]"


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    arguments = parser.parse_args()
    tables = {
        f"agiqa3k/{name}_results.csv": table(json.loads((HERE / f"{name}_summary.json").read_text(encoding="utf-8")))
        for name, table in (("rows", rows_table), ("sweeps", sweeps_table), ("choices", sweeps_table))
        if (HERE / f"{name}_summary.json").is_file()
    }
    for name, table in tables.items():
        print(f"\n{name}\n{table}")
        if arguments.write:
            put_table(name, table)


if __name__ == "__main__":
    main()
