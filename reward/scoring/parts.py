"""Where scores go: finished parts in a folder beside the output, and in the end one CSV, JSONL or Parquet file.

A part is a digest and then JSON lines with a record each: path, prompt and score, or path and error where there is no
score. A part whose digest is another, since the disk has changed it, counts as one that is not there.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from reward.files.writing import is_scratch, write_text, write_whole

Record = Mapping[str, Any]

OUTPUT_SUFFIXES = (".csv", ".jsonl", ".parquet")
COLUMNS = ("path", "prompt", "score")
_PARQUET_ROWS = 16384
_PART_NAME = re.compile(r"\d+-[0-9a-f]{32}\.(jsonl|bad)")


def check_output(output: Path) -> None:
    """Refuse what cannot become a score file, before any work is done.

    Raises:
        ValueError: another suffix, or a folder.
    """
    if output.suffix not in OUTPUT_SUFFIXES:
        raise ValueError(f"Expected --output to end in .csv, .jsonl or .parquet, got {output}.")
    if output.is_dir():
        raise ValueError(f"Expected --output to be a file, {output} is a folder.")


def write_scores(output: Path, records: Iterable[Record]) -> Path:
    """Write those records that have a score, whole or not at all, as the suffix says; returns `output`."""
    scored = (record for record in records if "score" in record)
    write = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[output.suffix]
    return write_whole(output, lambda temporary: write(temporary, scored))


class PartFolder:
    """The finished parts of a run, beside its output until that is written.

    A part's key says which rows it has and which model scored them: what belongs to another run is never taken.

    Args:
        output: the score file to be.
    """

    def __init__(self, output: Path):
        self.path = output.with_name(f".{output.name}.parts")

    def has(self, index: int, key: str) -> bool:
        """Whether the part is finished and all its pictures have a score."""
        return _body(self._file(index, key)) is not None

    def write(self, index: int, key: str, records: list[Record]) -> None:
        """Keep a finished part; one with pictures that could not be read counts as to be tried again."""
        bad = any("score" not in record for record in records)
        # ASCII: JSON escapes what UTF-8 cannot hold, such as half a surrogate pair in a file's name
        body = "".join(json.dumps(record) + "\n" for record in records)
        write_text(self._file(index, key, bad), f"{_digest(body)}\n{body}")

    def read(self, index: int, key: str) -> Iterator[Record]:
        """A part's records.

        Raises:
            FileNotFoundError: it is not there.
        """
        bodies = (_body(file) for file in (self._file(index, key), self._file(index, key, bad=True)))
        body = next((body for body in bodies if body is not None), None)
        if body is None:
            raise FileNotFoundError(
                f"Expected part {index} in {self.path} but it is gone or damaged, or a picture of it changed "
                "meanwhile; run the same command again"
            )
        yield from map(json.loads, body.splitlines())

    def remove(self) -> None:
        """Remove all parts, those of other runs to the same output too."""
        if not self.path.is_dir():
            return
        for file in self.path.iterdir():
            if _PART_NAME.fullmatch(file.name) or is_scratch(file.name):
                file.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _file(self, index: int, key: str, bad: bool = False) -> Path:
        return self.path / f"{index:06d}-{key}.{'bad' if bad else 'jsonl'}"


def _body(file: Path) -> str | None:
    """The records of a part's file as they were written; None: there are none."""
    try:
        digest, _, body = file.read_bytes().decode("ascii").partition("\n")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return body if digest == _digest(body) else None


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("ascii")).hexdigest()


def csv_lines(records: Iterable[Record], file: Any, header: bool = True) -> None:
    """Write records to an open text file as CSV."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(records)


def _write_csv(path: Path, records: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv_lines(records, file)


def _write_jsonl(path: Path, records: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _write_parquet(path: Path, records: Iterable[Record]) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = (pyarrow.string(), pyarrow.string(), pyarrow.float64())
    schema = pyarrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    records = iter(records)
    with parquet.ParquetWriter(path, schema) as writer:
        while rows := list(islice(records, _PARQUET_ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
