"""Print the tables of benchmarks/README.md from curves.csv and guards.csv; `--write` writes them there.

python -m benchmarks.direct.tables [--write]
"""

import argparse
from collections import defaultdict
from statistics import mean

from benchmarks.direct import guards, run
from benchmarks.results_file import put_table, read_rows
from reward.cli.flags import ArgumentParser

Rows = list[dict[str, str]]


def methods_table(rows: Rows) -> str:
    """The last point of each method's runs: mean over seeds, lowest and highest."""
    lines = [
        "| method | seeds | pictures scored | UNet evaluations | seconds | held-out reward | held-out oracle, mean "
        "(lowest to highest) | best point on the way |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in run.METHODS:
        series = [points for (name, _), points in _series(rows).items() if name == method]
        if not series:
            continue
        last = [points[-1] for points in series]
        oracle = _numbers(last, "oracle")
        best = mean(max(_numbers(points, "oracle")) for points in series)
        names = ("reward_queries", "denoiser_evaluations", "train_seconds")
        costs = (f"{mean(_numbers(last, name)):,.0f}" for name in names)
        lines.append(
            f"| {method} | {len(series)} | {' | '.join(costs)} | {mean(_numbers(last, 'reward')):.3f} | "
            f"{mean(oracle):.3f} ({min(oracle):.3f} to {max(oracle):.3f}) | {best:.3f} |"
        )
    return "\n".join(lines)


def finalists_table(rows: Rows, other: str = "draft-2") -> str:
    """DDPO and the default direct method, for each seed."""
    lines = [
        f"| seed | DDPO, own best guidance | {other}, own best guidance | DDPO, guidance trained with | {other}, "
        "guidance trained with | pictures | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    last = {key: points[-1] for key, points in _series(rows).items()}
    for seed in sorted({seed for method, seed in last if method == other and ("ddpo", seed) in last}, key=int):
        ddpo, direct = last["ddpo", seed], last[other, seed]
        bests = (f"{float(row['best_oracle']):.3f} ({float(row['best_guidance']):g})" for row in (ddpo, direct))
        trained = (f"{float(row['oracle']):.3f}" for row in (ddpo, direct))
        costs = (
            f"{int(direct[cost]) / int(ddpo[cost]):.2f}x" if cost == "reward_queries"
            else f"{float(direct[cost]):.0f} / {float(ddpo[cost]):.0f} = {float(direct[cost]) / float(ddpo[cost]):.2f}x"
            for cost in ("reward_queries", "train_seconds")
        )  # fmt: skip
        lines.append(f"| {seed} | {' | '.join(bests)} | {' | '.join(trained)} | {' | '.join(costs)} |")
    return "\n".join(lines)


def guards_table(rows: Rows) -> str:
    """The last and the best point with each guard: means over seeds."""
    lines = [
        "| guard | seeds | reward at the end | oracle at the end | best oracle on the way |",
        "| --- | --- | --- | --- | --- |",
    ]
    found: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["guard"]][row["seed"]].append(row)
    for guard, seeds in found.items():
        last = [points[-1] for points in seeds.values()]
        best = mean(max(_numbers(points, "oracle")) for points in seeds.values())
        lines.append(
            f"| {guard} | {len(seeds)} | {mean(_numbers(last, 'reward')):.3f} | {mean(_numbers(last, 'oracle')):.3f} | "
            f"{best:.3f} |"
        )
    return "\n".join(lines)


def _series(rows: Rows) -> dict[tuple[str, str], Rows]:
    series: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in rows:
        if row["name"] == "default":
            series[row["method"], row["seed"]].append(row)
    return series


def _numbers(rows: Rows, column: str) -> list[float]:
    return [float(row[column]) for row in rows]


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    arguments = parser.parse_args()
    curves = read_rows(run.CURVES)
    tables = {
        "direct/curves.csv": methods_table(curves),
        "direct/curves.csv, finalists": finalists_table(curves),
    }
    if guard_rows := read_rows(guards.RESULTS):
        tables["direct/guards.csv"] = guards_table(guard_rows)
    for name, table in tables.items():
        print(f"\n{name}\n{table}")
        if arguments.write:
            put_table(name, table)


if __name__ == "__main__":
    main()
