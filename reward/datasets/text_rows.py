"""Text files -> numbered lines: CSV with quotes, tab-separated without, JSON lines."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another encoding; names the line.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: expected UTF-8 but got the byte 0x{data[error.start]:02x}; save the file as UTF-8"
        ) from error


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Fields of each record with the line on which it starts; records may span lines, empty lines are skipped.

    Raises:
        ValueError: a quote that is not closed, or that is followed by something other than a delimiter.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line}: expected CSV but got {error}; put a field with quotes in it between quotes, and "
            'double those inside: "a sign that says ""open"""'
        ) from error


def tab_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Fields of each line; a quote is a quote, it may stand at the start of a prompt."""
    # Not splitlines(): it would also cut at characters that may stand inside a prompt, such as U+2028.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line.split("\t")


def json_rows(path: Path) -> Iterator[tuple[int, object]]:
    """The value of each line, or a ValueError in its place (for a bad line does not spoil the next)."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, error
            except RecursionError:
                yield number, ValueError("nested too deeply")


def number_or_text(field: str) -> float | str:
    """A field as a number; as it is where it is none."""
    try:
        # float() also takes 1_000, which nobody means
        return field if "_" in field else float(field)
    except ValueError:
        return field
