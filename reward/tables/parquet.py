"""Parquet: columns of text and numbers, pictures as paths, as bytes, or as {bytes, path} of Hugging Face `datasets`."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward.files.quoting import shortened
from reward.tables.columns import described
from reward.tables.rows import Asked, StoredPicture, TableRow, file_state

# Of pictures that were passed over on the way to another, which several readers ask for in turns.
_KEPT_BYTES = 2**28
_ROWS = 1024
_PICTURES = 16
_OPEN_FILES = 8


def read_parquet(path: Path, asked: Asked, title: str) -> Iterator[TableRow]:
    """Rows, without the pictures' bytes, which `ParquetPicture` reads when they are asked for.

    Raises:
        ValueError: no Parquet file, a missing column, a picture column of numbers.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"Expected a Parquet file but could not read {title}: {shortened(error)}; write it again"
        ) from error
    schema = file.schema_arrow
    try:
        columns = asked.find(schema.names, title)
        kind = _picture_kind(schema.field(schema.names.index(columns["image"])).type, columns["image"], title)
    except ValueError:
        file.close()
        raise
    if asked.tell:
        asked.tell(described(title, columns) + {"path": "", "bytes": " (bytes)", "both": " (bytes and path)"}[kind])
    return _rows(file, path, columns, kind, title)


def _picture_kind(kind: Any, column: str, title: str) -> str:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "path"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "bytes"
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "both" if kind.get_field_index("path") >= 0 else "bytes"
    raise ValueError(
        f"{title}: expected pictures in the column {column!r} (paths, bytes, or a struct of bytes and path) but it "
        f"holds {shortened(kind)}; name another with --image-column"
    )


def _rows(file: Any, path: Path, columns: dict[str, str], kind: str, title: str) -> Iterator[TableRow]:
    import pyarrow

    image = columns["image"]
    others = [name for role, name in columns.items() if role != "image"]
    wanted = others + {"path": [image], "bytes": [], "both": [f"{image}.path"]}[kind]
    row = 0
    with file:
        try:
            # a column alone for the number of rows, where nothing but bytes is asked for
            for batch in file.iter_batches(batch_size=_ROWS, columns=wanted or [image]):
                values = {role: batch.column(name).to_pylist() for role, name in columns.items() if name in others}
                paths = batch.column(image).to_pylist() if kind != "bytes" else [None] * batch.num_rows
                for place in range(batch.num_rows):
                    row += 1
                    cells = {role: column[place] for role, column in values.items()}
                    if kind == "path":
                        cells["image"] = paths[place]
                    else:
                        own = (paths[place] or {}).get("path") if kind == "both" else None
                        name = f"{title}#{row}" + (f"/{Path(own).name}" if isinstance(own, str) and own else "")
                        cells["image"] = ParquetPicture(name, path, image, row - 1)
                    yield TableRow(f"{title}, row {row}", {role: cells[role] for role in columns})
        # a damaged page; KeyError: a column of structures; UnicodeDecodeError: text that is none
        except (pyarrow.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(
                f"Expected a Parquet file but could not read {title}: {shortened(error)}; write it again"
            ) from error


@dataclass(frozen=True)
class ParquetPicture(StoredPicture):
    """The picture in a row of a Parquet file; where its bytes are null, the file at its path."""

    name: str
    table: Path
    column: str
    row: int

    def read(self) -> bytes:
        cell = _cursor(self.table, self.column).cell(self.row)
        if isinstance(cell, dict):
            content, path = cell.get("bytes"), cell.get("path")
            if content is None and path:
                try:
                    return (self.table.parent / path).read_bytes()
                except OSError as error:
                    raise ValueError(f"expected a picture at {self.table.parent / path} but got {error}") from error
            cell = content
        if not isinstance(cell, bytes) or not cell:
            raise ValueError(f"expected a picture but the cell {self.column!r} is empty; fill it in")
        return cell

    def state(self) -> list[Any]:
        return [*file_state(self.table), self.column, self.row]


class _Cursor:
    """Cells of one column by row number, fast where the numbers rise; several threads may ask, not quite in order."""

    def __init__(self, path: Path, column: str):
        from pyarrow import parquet

        # with a buffer pages are read one by one, not a whole group of rows at once
        self._file = parquet.ParquetFile(path, buffer_size=2**20)
        self._column, self._path = column, path
        groups = self._file.metadata
        self._starts = [0]
        for group in range(groups.num_row_groups):
            self._starts.append(self._starts[-1] + groups.row_group(group).num_rows)
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._bytes, self._next, self._batches = 0, 0, iter(())
        self._restart(0)

    def cell(self, row: int) -> Any:
        import pyarrow

        with self._lock:
            try:
                if row not in self._kept:
                    if row < self._next or row >= self._group_end(self._next):
                        self._restart(row)
                    while self._next <= row:
                        self._advance(row)
                value = self._kept.pop(row)
            except (pyarrow.ArrowException, OSError, StopIteration) as error:
                raise ValueError(f"could not read row {row + 1} of {self._path}: {error}; write it again") from error
            self._bytes -= _size(value)
            return value

    def _group_end(self, row: int) -> int:
        return next((start for start in self._starts if start > row), self._starts[-1])

    def _restart(self, row: int) -> None:
        group = max(0, sum(start <= row for start in self._starts[:-1]) - 1)
        groups = list(range(group, self._file.metadata.num_row_groups))
        self._batches = self._file.iter_batches(batch_size=_PICTURES, row_groups=groups, columns=[self._column])
        self._next = self._starts[group]

    def _advance(self, wanted: int) -> None:
        batch = next(self._batches).column(0).to_pylist()
        for value in batch:
            self._kept[self._next] = value
            self._bytes += _size(value)
            self._next += 1
        while self._bytes > _KEPT_BYTES and (oldest := next(iter(self._kept))) < wanted:
            self._bytes -= _size(self._kept.pop(oldest))


def _size(value: Any) -> int:
    content = value.get("bytes") if isinstance(value, dict) else value
    return len(content) if isinstance(content, bytes) else 0


_cursors: OrderedDict[tuple[Any, ...], _Cursor] = OrderedDict()
_cursors_lock = threading.Lock()


def _cursor(path: Path, column: str) -> _Cursor:
    key = (str(path), column, *file_state(path))
    with _cursors_lock:
        if key not in _cursors:
            try:
                _cursors[key] = _Cursor(path, column)
            except Exception as error:
                raise ValueError(f"Expected a Parquet file but could not read {path}: {error}") from error
            while len(_cursors) > _OPEN_FILES:
                _cursors.popitem(last=False)
        _cursors.move_to_end(key)
        return _cursors[key]
