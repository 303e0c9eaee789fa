"""A table's file, folder or name -> its rows, whatever it is written in."""

import functools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reward.tables.delimited import read_delimited
from reward.tables.hub import HUB_PREFIX, is_saved_dataset, read_dataset
from reward.tables.json_lines import read_json_lines
from reward.tables.parquet import read_parquet
from reward.tables.rows import Asked, TableRow
from reward.tables.shards import SHARD_SUFFIX, expand_braces, read_shard

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", SHARD_SUFFIX)
METADATA_SUFFIXES = (".csv", ".jsonl", ".parquet")
STANDARD_INPUT = "-"


def read_table(source: str | Path, asked: Asked, title: str | None = None) -> Iterator[TableRow]:
    """Rows of one table; what is wrong with the whole of it is raised at once, what is wrong with a row is its problem.

    Args:
        source: a file ending in one of `TABLE_SUFFIXES`, `datasets:NAME?split=...`, or the folder of `save_to_disk`.
        title: what messages call it, if not its path.

    Raises:
        ValueError: another suffix, a missing column, a file that is not what its suffix says.
    """
    text = str(source)
    if text.startswith(HUB_PREFIX):
        return read_dataset(text, asked)
    path, title = Path(source), title or text
    if path.is_dir() and is_saved_dataset(path):
        return read_dataset(text, asked)
    readers = {
        ".csv": functools.partial(read_delimited, first=","),
        ".tsv": functools.partial(read_delimited, first="\t"),
        ".jsonl": read_json_lines,
        ".parquet": read_parquet,
        SHARD_SUFFIX: read_shard,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f"Expected a table ending in {', '.join(TABLE_SUFFIXES)} but got {title}")
    return readers[path.suffix.lower()](path, asked, title)


def is_table(source: str | Path) -> bool:
    """Whether a name on the command line is a table's, by how it is written."""
    text = str(source)
    return text.startswith(HUB_PREFIX) or Path(text).suffix.lower() in TABLE_SUFFIXES


def expanded(source: str | Path) -> list[str | Path]:
    """One name or, where it has braces and is no file's own, all that it stands for."""
    text = str(source)
    if "{" not in text or text.startswith(HUB_PREFIX) or Path(text).exists():
        return [source]
    return [Path(name) for name in expand_braces(text)]


def tables_in(folder: Path) -> list[Path]:
    """The tables that a folder is: those of `save_to_disk`, metadata files, else its Parquet files, else its shards.

    Subfolders are looked into, as `datasets` puts splits there; hidden ones are not.

    Raises:
        ValueError: two metadata files side by side.
    """
    if is_saved_dataset(folder):
        return [folder]
    metadata = [file for file in _below(folder, "metadata.*") if file.suffix in METADATA_SUFFIXES]
    for one, other in zip(metadata, metadata[1:], strict=False):
        if one.parent == other.parent:
            raise ValueError(f"Expected one metadata file in a folder but there are {one} and {other}; remove one")
    return metadata or _below(folder, "*.parquet") or _below(folder, f"*{SHARD_SUFFIX}")


def _below(folder: Path, pattern: str) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


@functools.cache
def spooled_input() -> Path:
    """Standard input as a file, since rows are passed over more than once; its suffix is what it looks like."""
    data = sys.stdin.buffer.read()
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:4]
    suffix = ".parquet" if start == b"PAR1" else ".jsonl" if start.startswith(b"{") else ".csv"
    # kept until the process ends; the object is held by the cache
    file = tempfile.NamedTemporaryFile(prefix="hyperalign-", suffix=suffix)  # noqa: SIM115
    file.write(data)
    file.flush()
    _held.append(file)
    return Path(file.name)


_held: list = []
