"""JSON lines: an object a line, its keys as columns."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reward.files.quoting import shortened
from reward.tables.columns import described
from reward.tables.rows import Asked, HeldPicture, TableRow


def read_json_lines(path: Path, asked: Asked, title: str) -> Iterator[TableRow]:
    """Rows; a bad line does not spoil the next. A picture is a path, or {"path": ..., "bytes": base64}."""
    chosen: dict[tuple[str, ...], dict[str, str]] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{title}, line {number}"
            try:
                # the mark that some editors put before the first line
                record = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
                if not isinstance(record, dict):
                    raise ValueError(f"a {type(record).__name__}")
            except UnicodeDecodeError as error:
                message = f"{where}: expected UTF-8 but got the byte 0x{error.object[error.start]:02x}"
                raise ValueError(f"{message}; save the file as UTF-8") from error
            except (ValueError, RecursionError) as error:
                got = "one nested too deeply" if isinstance(error, RecursionError) else shortened(error)
                yield TableRow(where, problem=f"expected a JSON object but got {got}; correct the line")
                continue
            keys = tuple(record)
            try:
                columns = chosen.get(keys) or asked.find(keys)
            except ValueError as error:
                yield TableRow(where, problem=str(error))
                continue
            if not chosen and asked.tell:
                asked.tell(described(title, columns))
            if len(chosen) < 64:
                chosen[keys] = columns
            cells = {role: record[name] for role, name in columns.items()}
            if isinstance(cells.get("image"), Mapping):
                cells["image"] = _picture(cells["image"], f"{title}#{number}")
            yield TableRow(where, cells)


def _picture(cell: Mapping[str, Any], name: str) -> Any:
    """The path, or the bytes, of a picture that is written as `datasets` does; the cell itself where it is neither."""
    content, path = cell.get("bytes"), cell.get("path")
    if isinstance(content, str):
        try:
            return HeldPicture(f"{name}/{path}" if path else name, base64.b64decode(content, validate=True))
        except binascii.Error:
            return cell
    return path if content is None and isinstance(path, str) else cell
