"""WebDataset shards: tar files in which the files of a sample, picture and caption, lie side by side under one key."""

import dataclasses
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward.files.quoting import shortened
from reward.tables.columns import USUAL_NAMES, described
from reward.tables.rows import Asked, StoredPicture, TableRow, file_state

SHARD_SUFFIX = ".tar"
_RANGE = re.compile(r"\{([^{}]*)\}")
_CAPTION = ("txt", "json")
# a caption is a line or two; a shard from a stranger may say otherwise
_MOST_CAPTION = 2**20


def expand_braces(pattern: str) -> list[str]:
    """`shard-{000..009}.tar` and `{a,b}.tar` -> their names, in order; a name without braces -> itself.

    Raises:
        ValueError: braces that are neither a range nor a list.

    Example:
        >>> expand_braces("shard-{08..10}.tar")
        ['shard-08.tar', 'shard-09.tar', 'shard-10.tar']
    """
    found = _RANGE.search(pattern)
    if not found:
        return [pattern]
    inside = found[1]
    if ends := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        first, last = int(ends[1]), int(ends[2])
        width = len(ends[1]) if ends[1].startswith("0") else 0
        middle = [f"{number:0{width}d}" for number in range(first, last + 1)]
    else:
        middle = inside.split(",")
    if not middle or ("," not in inside and ".." not in inside) or (".." in inside and not ends):
        raise ValueError(f"Expected braces as in shard-{{000..009}}.tar or {{train,test}}.tar but got {pattern}")
    tails = expand_braces(pattern[found.end() :])
    return [pattern[: found.start()] + part + tail for part in middle for tail in tails]


def read_shard(path: Path, asked: Asked, title: str) -> Iterator[TableRow]:
    """Rows of one shard: the picture `TarPicture`, captions from .txt or from the keys of .json; pictures stay on disk.

    Columns are the extensions of a sample's files (jpg, txt) and the keys of its .json.

    Raises:
        ValueError: no tar file, or a compressed one.
    """
    chosen: dict[tuple[str, ...], dict[str, str]] = {}
    for key, files, texts in _samples(path, title):
        where = f"{title}, sample {key}"
        try:
            cells: dict[str, Any] = {**files, **_texts(texts)}
            names = tuple(cells)
            columns = chosen.get(names) or _columns(names, asked)
        except (ValueError, RecursionError) as error:
            yield TableRow(where, problem=shortened(error) or "expected JSON but got one nested too deeply")
            continue
        if not chosen and asked.tell:
            asked.tell(described(title, columns))
        if len(chosen) < 64:
            chosen[names] = columns
        yield TableRow(where, {role: cells[name] for role, name in columns.items()})


def _columns(names: tuple[str, ...], asked: Asked) -> dict[str, str]:
    named = dict(asked.named)
    if "prompt" in asked.roles and "prompt" not in named and "txt" in names:
        # the words of a .json are chosen before the .txt beside it, which says the same
        if not any(name in names for name in USUAL_NAMES["prompt"]):
            named["prompt"] = "txt"
    return dataclasses.replace(asked, named=named).find(names)


def _texts(texts: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for extension, data in texts.items():
        if len(data) > _MOST_CAPTION:
            raise ValueError(f"expected a .{extension} of at most {_MOST_CAPTION} bytes but it has more")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"expected UTF-8 in its .{extension} but got {error}") from error
        if extension.endswith("json"):
            record = json.loads(text)
            if not isinstance(record, dict):
                raise ValueError(f"expected a JSON object in its .json but got a {type(record).__name__}")
            found.update(record)
        else:
            found[extension] = text.strip()
    return found


def _samples(path: Path, title: str) -> Iterator[tuple[str, dict[str, "TarPicture"], dict[str, bytes]]]:
    """Key, pictures and other files by extension, captions by extension, of each run of members with one key."""
    key, files, texts = "", {}, {}
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                # it keeps every header that it has read
                tar.members.clear()
                folder, slash, base = member.name.rpartition("/")
                stem, dot, extension = base.partition(".")
                if not member.isreg() or member.issparse() or not dot or not stem:
                    continue
                own = folder + slash + stem
                if own != key:
                    if files or texts:
                        yield key, files, texts
                    key, files, texts = own, {}, {}
                extension = extension.lower()
                if extension.rpartition(".")[2] in _CAPTION:
                    source = tar.extractfile(member)
                    texts[extension] = source.read(_MOST_CAPTION + 1) if source else b""
                else:
                    name = f"{title}/{member.name}"
                    files[extension] = TarPicture(name, path, member.offset_data, member.size)
        if files or texts:
            yield key, files, texts
    except tarfile.ReadError as error:
        raise ValueError(
            f"Expected a tar file, not a compressed one, but could not read {title}: {error}; gunzip it, or "
            "fetch it again"
        ) from error


@dataclass(frozen=True)
class TarPicture(StoredPicture):
    """A member of a tar file, by its place in it."""

    name: str
    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise ValueError(f"expected {self.size} bytes of {self.name} but the shard ends after {len(data)}")
        return data

    def state(self) -> list[Any]:
        return [*file_state(self.shard), self.offset, self.size]
