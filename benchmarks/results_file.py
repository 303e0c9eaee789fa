"""Read and write a benchmark's CSV, and write its table into README.md."""

import argparse
import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reward.cli.flags import ArgumentParser
from reward.files.writing import write_text, write_whole

README = Path(__file__).with_name("README.md")


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows as text; empty if there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `columns` of the rows, atomically. Missing values stay empty; other keys are ignored."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({column: short(row.get(column, "")) for column in columns} for row in rows)

    write_whole(path, write)


def short(value: Any) -> Any:
    """A float rounded to four decimals; anything else as it is."""
    return f"{value:.4f}" if isinstance(value, float) else value


def put_table(name: str, table: str, readme: Path = README) -> None:
    """Write `table` into the README, between `<!-- name -->` and the next `<!-- end -->`.

    Raises:
        ValueError: the README has no such marks.
    """
    start = f"<!-- {name} -->\n"
    head, _, rest = readme.read_text(encoding="utf-8").partition(start)
    _, end, tail = rest.partition("<!-- end -->")
    if not end:
        raise ValueError(f"{readme.name}: expected {start.strip()} and <!-- end -->, found none. Put them there.")
    write_text(readme, f"{head}{start}{table}\n{end}{tail}")


def print_tables(
    description: str | None, folder: Path, tables: Mapping[str, Callable[[list[dict[str, str]]], str]]
) -> None:
    """The command line of a `tables.py`: print a table for each CSV of a folder, with --write into the README too.

    Args:
        description: for --help.
        folder: of the benchmark; its name is the first part of the marks in the README.
        tables: name of the CSV -> what makes its rows a Markdown table.
    """
    parser = ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    arguments = parser.parse_args()
    for name, make in tables.items():
        rows = read_rows(folder / name)
        if not rows:
            print(f"{name}: not there yet")
            continue
        table = make(rows)
        print(table, end="\n\n")
        if arguments.write:
            put_table(f"{folder.name}/{name}", table)
