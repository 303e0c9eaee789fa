"""A table of one's own with scores: any that `reward.tables` reads, or a folder that holds such tables."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from reward.datasets.rows import Row
from reward.tables.columns import USUAL_NAMES
from reward.tables.delimited import read_delimited
from reward.tables.hub import is_streamed
from reward.tables.reading import TABLE_SUFFIXES, expanded, is_table, read_table, tables_in
from reward.tables.rows import Asked, StoredPicture, TableRow, Tell

_ROLES = ("image", "prompt", "score")


def read_rows(source: str | Path, columns: Mapping[str, str], tell: Tell | None = None) -> Iterator[Row]:
    """Rows of a table, its pictures' paths relative to the table's own folder.

    Args:
        source: a table, shards with braces in their name, `datasets:NAME?split=...`, or a folder: an imagefolder, of
            which every metadata file is read, splits included, or one of Parquet files, shards or `save_to_disk`.
        columns: names of the columns image, prompt and score where they are others than the usual ones.
        tell: told which columns were chosen.

    Raises:
        ValueError: another suffix, unknown keys in `columns`, a missing column.
        FileNotFoundError: a folder without tables.
    """
    unknown = sorted(set(columns) - set(USUAL_NAMES))
    if unknown:
        raise ValueError(f"Expected columns to name {', '.join(USUAL_NAMES)} but got {', '.join(unknown)}")
    if is_streamed(str(source)):
        raise ValueError(f"Expected a data set with random access to train on but {source} is streamed; drop streaming")
    files = [file for name in expanded(source) for file in _tables(name)]
    asked = Asked(_ROLES, columns, tell=tell)
    # Before the first row is asked for: a misspelt column is no matter of single rows.
    tables = [(read_table(file, asked), (Path(file).parent,)) for file in files]
    return (_row(row, folders) for rows, folders in tables for row in rows)


def csv_table(path: Path, columns: Mapping[str, str], folders: tuple[Path, ...], delimiter: str = ",") -> Iterator[Row]:
    """Rows of a CSV file with a header, its pictures' paths relative to one of `folders`."""
    rows = read_delimited(path, Asked(_ROLES, columns), str(path), delimiter)
    return (_row(row, folders) for row in rows)


def _row(row: TableRow, folders: tuple[Path, ...]) -> Row:
    if row.problem:
        return Row(row.where, problem=row.problem)
    image = row.cells["image"]
    stored = image if isinstance(image, StoredPicture) else None
    return Row(row.where, () if stored else (image,), row.cells["prompt"], row.cells["score"], folders, stored=stored)


def _tables(source: str | Path) -> list[str | Path]:
    path = Path(source)
    if path.is_dir():
        if not (found := tables_in(path)):
            raise FileNotFoundError(
                f"Expected an imagefolder but there is no metadata.csv, .jsonl or .parquet in {path}, no Parquet file "
                "and no shard; for another table give its file, not its folder"
            )
        return list(found)
    if not is_table(source):
        raise ValueError(f"Expected a table ending in {', '.join(TABLE_SUFFIXES)}, or an imagefolder, but got {source}")
    return [source]
