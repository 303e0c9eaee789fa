"""A benchmark's CSV and its table in README.md: read whatever is there, write it whole."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reward.files.writing import write_text, write_whole

README = Path(__file__).with_name("README.md")


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows as text; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `columns` of the rows; what a row lacks stays empty, other keys are left out."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({column: short(row.get(column, "")) for column in columns} for row in rows)

    write_whole(path, write)


def short(value: Any) -> Any:
    """A float to four digits after the point; anything else as it is."""
    return f"{value:.4f}" if isinstance(value, float) else value


def put_table(name: str, table: str, readme: Path = README) -> None:
    """Write `table` into the README, between `<!-- name -->` and the next `<!-- end -->`.

    Raises:
        ValueError: the marks are not there.
    """
    start = f"<!-- {name} -->\n"
    head, _, rest = readme.read_text(encoding="utf-8").partition(start)
    _, end, tail = rest.partition("<!-- end -->")
    if not end:
        raise ValueError(f"{readme.name}: expected {start.strip()} and <!-- end -->, found none. Put them there.")
    write_text(readme, f"{head}{start}{table}\n{end}{tail}")
