"""CSV as spreadsheets, pandas and people write it: comma, semicolon or tab, with or without a byte order mark."""

import csv
from collections.abc import Iterator
from pathlib import Path

from reward.tables.columns import MissingColumnError, described
from reward.tables.rows import Asked, TableRow

DELIMITERS = (",", ";", "\t")


def read_delimited(path: Path, asked: Asked, title: str, first: str = ",") -> Iterator[TableRow]:
    """Rows of a file with a header; the delimiter is the one under which its columns are found.

    Args:
        first: the delimiter that is tried first, the one that the file's suffix promises.

    Raises:
        ValueError: at once where a column is missing; while reading at a quote that is not closed, or at a byte that is
            not UTF-8.
    """
    header_line, header, columns, delimiter = _header(path, asked, title, first)
    if asked.tell:
        mark = {",": "", ";": " (semicolons)", "\t": " (tabs)"}[delimiter]
        asked.tell(described(title, columns) + mark)
    places = {role: header.index(name) for role, name in columns.items()}
    return _body(path, title, delimiter, header_line, len(header), places)


def _header(path: Path, asked: Asked, title: str, first: str):
    failure: MissingColumnError | None = None
    for delimiter in (first, *(mark for mark in DELIMITERS if mark != first)):
        line, header = next(_records(path, title, delimiter), (1, []))
        header = [name.strip() for name in header]
        try:
            return line, header, asked.find(header, f"{title}, line {line}"), delimiter
        except MissingColumnError as error:
            # of several failures that of the delimiter which the line has
            if failure is None or len(header) > 1:
                failure = error
    raise failure or AssertionError


def _body(path: Path, title: str, delimiter: str, header_line: int, width: int, places) -> Iterator[TableRow]:
    for line, fields in _records(path, title, delimiter):
        if line == header_line:
            continue
        where = f"{title}, line {line}"
        if len(fields) != width:
            yield TableRow(
                where,
                problem=f"expected {width} fields as in the header but got {len(fields)}; put a prompt with a "
                "delimiter in it between quotes",
            )
            continue
        cells = {role: fields[place] for role, place in places.items()}
        if "score" in cells:
            # where columns are not divided by commas, decimals often are
            cells["score"] = number_or_text(cells["score"], comma=delimiter != ",")
        yield TableRow(where, cells)


def _records(path: Path, title: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Fields of each record with the line on which it starts; records may span lines, empty lines are skipped."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(
                f"{title}, line {line}: expected CSV but got {error}; put a field with quotes in it between quotes, "
                'and double those inside: "a sign that says ""open"""'
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(not_utf8(path, title)) from error


def not_utf8(path: Path, title: str) -> str:
    """The message about a file that is not UTF-8, with the first line that is not."""
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            try:
                data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                return (
                    f"{title}, line {line}: expected UTF-8 but got the byte 0x{data[error.start]:02x}; save the file "
                    "as UTF-8"
                )
    return f"{title}: expected UTF-8; save the file as UTF-8"


def number_or_text(field: str, comma: bool = False) -> float | str:
    """A field as a number; as it is where it is none.

    Args:
        comma: whether 3,5 is a number too.
    """
    text = field.replace(",", ".") if comma and field.count(",") == 1 and "." not in field else field
    try:
        # float() also takes 1_000, which nobody means
        return field if "_" in field else float(text)
    except ValueError:
        return field
