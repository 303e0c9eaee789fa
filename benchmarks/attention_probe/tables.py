"""Print tables for benchmarks/README.md from modes.csv, grounding.csv: python benchmarks/attention_probe/tables.py"""

import sys
from itertools import groupby
from pathlib import Path

# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import read_rows  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="folder with the two files")
    folder = parser.parse_args().folder
    for (pictures, layers), rows in groupby(read_rows(folder / "modes.csv"), lambda r: (r["pictures"], r["layers"])):
        print(modes_table(pictures, layers, list(rows)), end="\n\n")
    print(grounding_table(read_rows(folder / "grounding.csv")))


def modes_table(pictures: str, layers: str, rows: list[dict[str, str]]) -> str:
    """Gains over the plain model in percentage points: one line per mode and lambda, one column per rho."""
    base, *others = rows
    shares = list(dict.fromkeys(row["rho"] for row in others))
    where = f"post {others[0]['post']}, candidates {others[0]['candidates']}, review {others[0]['review']}"
    lines = [
        f"{pictures.capitalize()} pictures, {layers} layers ({where}); bare model {_number(base['score'])} % "
        f"({_number(base['low'])} to {_number(base['high'])}), {base['questions']} questions.",
        "",
        f"| mode | λ | {' | '.join(f'ρ = {share}' for share in shares)} |",
        f"|---|---|{'---|' * len(shares)}",
    ]
    for (mode, lam) in dict.fromkeys((row["mode"], row["lam"]) for row in others):
        cells = [_gap(row, "gain") for row in others if (row["mode"], row["lam"]) == (mode, lam)]
        lines.append(f"| {mode} | {lam} | {' | '.join(cells)} |")
    return "\n".join(lines)


def grounding_table(rows: list[dict[str, str]]) -> str:
    """Shares in percent, on the object of the question and on the other; paired differences in percentage points."""
    heads = ("map", "on the asked-for object, %", "on the other, %", "asked − other", "IA − post layer")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        name = row["map"] if row["layers"] == "each" else f"{row['map']} ({row['layers']} layers)"
        share = f"{_number(row['object'])} ({_number(row['object_low'])} to {_number(row['object_high'])})"
        over_post = _gap(row, "over_post") if row["over_post"] else ""
        lines.append(f"| {name} | {share} | {_number(row['other'])} | {_gap(row, 'over_other')} | {over_post} |")
    return "\n".join(lines)


def _gap(row: dict[str, str], name: str) -> str:
    return f"{float(row[name]):+.1f} ({float(row[f'{name}_low']):+.1f} to {float(row[f'{name}_high']):+.1f})"


def _number(text: str) -> str:
    return f"{float(text):.1f}"


if __name__ == "__main__":
    main()
