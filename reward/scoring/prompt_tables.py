"""Tables that pair pictures with prompts, row by row: CSV, TSV, JSON lines or Parquet; never a whole file in memory."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reward.files.quoting import shortened

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
# file_name is imagefolder's word; path is ours, so that scores can be scored again with another model.
_IMAGE_NAMES = ("image", "file_name", "path")
_PROMPT_NAME = "prompt"


def read_prompt_table(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """(where, image, prompt) of every row: file and line for messages, the cells as they were found.

    Raises:
        ValueError: another suffix, no such columns, a file that is no CSV, JSON lines, Parquet or UTF-8; the message
            names file and line.
    """
    readers = {".csv": _delimited, ".tsv": _delimited, ".jsonl": _json_lines, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(f"Expected a table ending in {', '.join(TABLE_SUFFIXES)} but got {path}")
    return readers[path.suffix.lower()](path)


def _delimited(path: Path) -> Iterator[tuple[str, Any, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            image, prompt = (header.index(name) for name in _columns(header, str(path)))
            line = reader.line_num + 1
            for fields in reader:
                if fields and len(fields) != len(header):
                    raise ValueError(
                        f"{path}, line {line}: expected {len(header)} fields as in the header but got {len(fields)}; "
                        "put a prompt with a delimiter in it between quotes"
                    )
                if fields:
                    yield f"{path}, line {line}", fields[image], fields[prompt]
                line = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: expected CSV but got {error}; mend the line") from error
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, after line {reader.line_num}: expected UTF-8 but got {error}; save the file as UTF-8"
            ) from error


def _json_lines(path: Path) -> Iterator[tuple[str, Any, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                # the mark that some editors put before the first line
                record = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: expected a JSON object but got {error}; mend the line") from error
            if not isinstance(record, dict):
                raise ValueError(f"{where}: expected a JSON object but got a {type(record).__name__}; mend the line")
            image, prompt = _columns(list(record), where)
            yield where, record[image], record[prompt]


def _parquet(path: Path) -> Iterator[tuple[str, Any, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            image, prompt = _columns(file.schema_arrow.names, str(path))
            row = 0
            for batch in file.iter_batches(batch_size=1024, columns=[image, prompt]):
                for cells in zip(*(batch.column(name).to_pylist() for name in (image, prompt)), strict=True):
                    row += 1
                    yield f"{path}, row {row}", *cells
    # a damaged page; KeyError: a column of structures; UnicodeDecodeError: text that is none
    except (pyarrow.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a Parquet file but could not read {path}: {error}; write it again") from error


def _columns(present: Sequence[str], where: str) -> tuple[str, str]:
    """The names of the columns of the picture and of the prompt."""
    image = next((name for name in _IMAGE_NAMES if name in present), None)
    if image is None or _PROMPT_NAME not in present:
        wanted = " or ".join(_IMAGE_NAMES) if image is None else _PROMPT_NAME
        raise ValueError(
            f"{where}: expected a column {wanted} but there is {shortened(', '.join(present)) or 'none'}; rename it"
        )
    return image, _PROMPT_NAME
