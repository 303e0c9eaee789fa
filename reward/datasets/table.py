"""A table of one's own: CSV, TSV, JSON lines, Parquet, or a `datasets` imagefolder with one of these in it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reward.datasets.rows import Row
from reward.datasets.text_rows import csv_rows, json_rows, number_or_text
from reward.files.quoting import shortened

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
METADATA_SUFFIXES = (".csv", ".jsonl", ".parquet")
# What a column may be called; file_name and image_file_name are imagefolder's own words.
NAMES = {"image": ("image", "file_name", "image_file_name"), "prompt": ("prompt",), "score": ("score",)}


def read_rows(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    """Rows of a table, its pictures' paths relative to the table's own folder.

    Args:
        path: a table, or an imagefolder: then every metadata file below it is read, splits included.
        columns: names of the columns image, prompt and score where they are others.

    Raises:
        ValueError: another suffix, unknown keys in `columns`, a missing column.
        FileNotFoundError: a folder without metadata.
    """
    unknown = sorted(set(columns) - set(NAMES))
    if unknown:
        raise ValueError(f"Expected columns to name {', '.join(NAMES)} but got {', '.join(unknown)}")
    # Before the first row is asked for: a misspelt column is no matter of single rows.
    tables = [_read(file, columns) for file in (_metadata(path) if path.is_dir() else [path])]
    return (row for rows in tables for row in rows)


def csv_table(path: Path, columns: Mapping[str, str], folders: tuple[Path, ...], delimiter: str = ",") -> Iterator[Row]:
    """Rows of a CSV file with a header, its pictures' paths relative to one of `folders`."""
    lines = csv_rows(path, delimiter)
    line, header = next(lines, (1, []))
    header = [name.strip() for name in header]
    places = {role: header.index(name) for role, name in _found(header, columns, f"{path}, line {line}").items()}
    return _csv_body(path, lines, len(header), places, folders)


def _csv_body(path: Path, lines, width: int, places: Mapping[str, int], folders: tuple[Path, ...]) -> Iterator[Row]:
    for line, fields in lines:
        where = f"{path}, line {line}"
        if len(fields) != width:
            yield Row(
                where,
                problem=f"expected {width} fields as in the header but got {len(fields)}; put a prompt with a "
                "delimiter in it between quotes",
            )
            continue
        image, prompt, score = (fields[places[role]] for role in ("image", "prompt", "score"))
        yield Row(where, (image,), prompt, number_or_text(score), folders)


def _read(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return csv_table(path, columns, (path.parent,), "," if suffix == ".csv" else "\t")
    if suffix == ".jsonl":
        return _json_table(path, columns)
    if suffix == ".parquet":
        return _parquet_table(path, columns)
    raise ValueError(f"Expected a table ending in {', '.join(SUFFIXES)}, or an imagefolder, but got {path}")


def _json_table(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    for line, record in json_rows(path):
        where = f"{path}, line {line}"
        if not isinstance(record, dict):
            got = str(record) if isinstance(record, ValueError) else type(record).__name__
            yield Row(where, problem=f"expected one JSON object but got {got}; correct the line")
            continue
        try:
            image, prompt, score = (record[name] for name in _found(list(record), columns, "").values())
        except ValueError as error:
            yield Row(where, problem=str(error))
            continue
        yield Row(where, (image,), prompt, score, (path.parent,))


def _parquet_table(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"Expected a Parquet file but could not read {path}: {error}; write it again") from error
    with file:
        names = file.schema_arrow.names
        found = _found(names, columns, str(path))
        kind = file.schema_arrow.field(names.index(found["image"])).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise ValueError(
                f"{path}: expected paths of pictures in the column {found['image']!r} but it holds "
                f"{shortened(kind)}; save the pictures as files and put their paths there"
            )
        try:
            content = file.read(columns=list(found.values()))
            image, prompt, score = (content.column(name).to_pylist() for name in found.values())
        # a damaged page; KeyError: a column of structures; UnicodeDecodeError: text that is none
        except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:
            raise ValueError(f"Expected a Parquet file but could not read {path}: {error}; write it again") from error
    return (
        Row(f"{path}, row {number}", (i,), p, s, (path.parent,))
        for number, (i, p, s) in enumerate(zip(image, prompt, score, strict=True), start=1)
    )


def _found(present: Sequence[str], columns: Mapping[str, str], where: str) -> dict[str, str]:
    """The column of each role, in the order image, prompt, score."""
    found = {}
    for role, usual in NAMES.items():
        wanted = (columns[role],) if role in columns else usual
        name = next((name for name in wanted if name in present), None)
        at = f"{where}: " if where else ""
        if name is None:
            hint = ""
            if len(present) == 1 and any(mark in present[0] for mark in ";\t"):
                hint = "; a .csv has commas between its columns, a .tsv tabs"
            raise ValueError(
                f"{at}expected a column {' or '.join(wanted)} but there is "
                f"{shortened(', '.join(present)) or 'none'}; rename it, or name yours: columns={{{role!r}: ...}}{hint}"
            )
        if present.count(name) > 1:
            raise ValueError(f"{at}expected one column {name} but there are {present.count(name)}; rename the others")
        found[role] = name
    return found


def _metadata(folder: Path) -> list[Path]:
    """The metadata files of an imagefolder, those of its splits included."""
    files = sorted(
        path
        for path in folder.rglob("metadata.*")
        if path.suffix in METADATA_SUFFIXES and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise FileNotFoundError(
            f"Expected an imagefolder but there is no metadata.csv, .jsonl or .parquet in {folder}; for another table "
            "give its file, not its folder"
        )
    for one, other in zip(files, files[1:], strict=False):
        if one.parent == other.parent:
            raise ValueError(f"Expected one metadata file in a folder but there are {one} and {other}; remove one")
    return files
