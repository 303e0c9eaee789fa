"""What to score: pictures, folders and tables on the command line -> rows of a picture and its prompt, streamed."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward.files.quoting import MOST, quoted
from reward.scoring.prompt_tables import TABLE_SUFFIXES, read_prompt_table

PICTURE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_METADATA = tuple(f"metadata{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))


@dataclass(frozen=True)
class PictureRow:
    """A picture and what it should show.

    Args:
        path: of the picture, from where the command runs; what the output names.
        prompt: of any length.
        problem: why it cannot be scored, whatever the picture is.
    """

    path: str
    prompt: str
    problem: str = ""


class NoPromptError(ValueError):
    """Nothing says what the pictures should show."""


class PictureRows:
    """All rows in order, read anew from their sources on every pass, so that none are held.

    Args:
        sources: functions that start a pass over one source.
    """

    def __init__(self, sources: Sequence[Callable[[], Iterator[PictureRow]]]):
        self._sources = list(sources)

    def __iter__(self) -> Iterator[PictureRow]:
        for source in self._sources:
            yield from source()


def find_rows(paths: Sequence[Path], table: Path | None = None, prompt: str | None = None) -> PictureRows:
    """Rows of pictures, folders and tables.

    A table has the columns image (or file_name, path) and prompt; its pictures' paths are relative to its own folder.
    A folder is its pictures, in order of name. Without `prompt`, a folder with metadata.csv, .jsonl or .parquet
    (`datasets`' imagefolder) is that table, and the prompt of any other picture is in a text file beside it.

    Raises:
        FileNotFoundError: nothing at a path.
        NoPromptError: pictures without any prompt.
        ValueError: no picture at all, or `prompt` for a table, which has its own.
    """
    if prompt is not None and (problem := _unwritable(prompt)):
        raise ValueError(f"Prompt: {problem}")
    sources: list[Callable[[], Iterator[PictureRow]]] = []
    for path in [*paths, *([table] if table else [])]:
        as_table = path if path == table or path.suffix.lower() in TABLE_SUFFIXES else None
        if as_table is None and prompt is None and path.is_dir():
            as_table = next((path / name for name in _METADATA if (path / name).is_file()), None)
        if as_table is None:
            if path.is_dir() and (names := _picture_names(path)):
                sources.append(_source(_folder_rows, path, names, prompt))
            else:
                # who gives no prompt is told that first, even where there is no picture either
                pictures = [path] if prompt is None and not path.is_dir() else find_pictures([path])
                sources.append(_source(_picture_rows, pictures, prompt))
            continue
        if not as_table.is_file():
            raise FileNotFoundError(f"Expected a table, found none at {as_table}.")
        if prompt is not None:
            raise ValueError(f"Expected no prompt beside the table {as_table}, whose rows have their own.")
        sources.append(_source(_table_rows, as_table))
    if not sources:
        raise ValueError("Expected pictures, a folder or a table to score, got none.")
    return PictureRows(sources)


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The given files, and the pictures that lie directly in the given folders, in order of name.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: there is no picture at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [path / name for name in _picture_names(path)]
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"Expected a picture or a folder, found nothing at {path}.")
    if not found:
        raise ValueError(
            f"Expected pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), found none in {', '.join(map(str, paths))}."
        )
    return found


def _picture_names(folder: Path) -> list[str]:
    """Names alone: of a hundred thousand pictures they take a few megabytes, paths ten times as much."""
    # macOS puts a file ._NAME, which is no picture, beside each on foreign disks
    return sorted(
        name
        for name in os.listdir(folder)
        if os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES and not name.startswith(".")
    )


def _source(rows: Callable[..., Iterator[PictureRow]], *arguments: Any) -> Callable[[], Iterator[PictureRow]]:
    return lambda: rows(*arguments)


def _folder_rows(folder: Path, names: list[str], prompt: str | None) -> Iterator[PictureRow]:
    return _picture_rows((folder / name for name in names), prompt)


def _picture_rows(pictures: Iterable[Path], prompt: str | None) -> Iterator[PictureRow]:
    for picture in pictures:
        own = _caption(picture) if prompt is None else prompt
        yield PictureRow(str(picture), own, _unwritable(str(picture)))


def _caption(picture: Path) -> str:
    file = picture.with_suffix(".txt")
    try:
        caption = file.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        caption = ""
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected UTF-8 in {file} but got {error}; save it as UTF-8.") from error
    if not caption:
        raise NoPromptError(
            f"expected a prompt for {picture}: --prompt TEXT, a table with the columns image and prompt, metadata.csv "
            f"in its folder, or its prompt in {file.name} beside it"
        )
    return caption


def _table_rows(table: Path) -> Iterator[PictureRow]:
    for where, image, prompt in read_prompt_table(table):
        given = isinstance(image, str) and image.strip()
        path, text = str(table.parent / image) if given else "", prompt if isinstance(prompt, str) else ""
        problem = _unwritable(path) or _unwritable(text)
        if not given:
            problem = f"expected the path of a picture but got {quoted(image)}; fill it in"
        elif not text.strip():
            problem = f"expected a prompt but got {quoted(prompt)}; fill it in"
        yield PictureRow(path, text, f"{where}: {problem}" if problem else "")


def _unwritable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"expected Unicode but got {ascii(text[:MOST])}; rename it"
    return ""
