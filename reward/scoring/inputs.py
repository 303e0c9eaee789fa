"""What to score: pictures, folders and tables on the command line -> rows of a picture and its prompt, streamed."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward.files.quoting import MOST, quoted
from reward.scoring.prompt_tables import asked_for, read_prompt_table
from reward.tables.hub import is_streamed, read_dataset
from reward.tables.reading import STANDARD_INPUT, expanded, is_table, spooled_input, tables_in
from reward.tables.rows import StoredPicture, Tell

PICTURE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class PictureRow:
    """A picture and what it should show.

    Args:
        path: of the picture, from where the command runs, or table and row of one inside a table; what the output
            names.
        prompt: of any length.
        problem: why it cannot be scored, whatever the picture is.
        stored: the picture, where it lies inside a larger file.
    """

    path: str
    prompt: str
    problem: str = ""
    stored: StoredPicture | None = None

    @property
    def picture(self) -> str | StoredPicture:
        """What `reward` takes: the path, or the picture inside its file."""
        return self.path if self.stored is None else self.stored


class NoPromptError(ValueError):
    """Nothing says what the pictures should show."""


Source = Callable[..., Iterator[PictureRow]]


class PictureRows:
    """All rows in order, read from their sources again on every pass, so that none are held.

    Args:
        sources: functions that start a pass over one source; told pictures=False, one that is passed over for its
            prompts alone.
        countable: whether a pass costs little enough to count the rows.
    """

    def __init__(self, sources: Sequence[Source], countable: bool = True):
        self._sources, self._countable = list(sources), countable

    def __iter__(self) -> Iterator[PictureRow]:
        for source in self._sources:
            yield from source()

    def without_pictures(self) -> Iterator[PictureRow]:
        """The same rows where pictures are not asked for: a streamed data set is not fetched twice."""
        for source in self._sources:
            yield from source(pictures=False)

    def count(self) -> int | None:
        """How many rows there are; None where only passing over all the pictures would tell."""
        return sum(1 for _ in self) if self._countable else None


def find_rows(
    paths: Sequence[str | Path],
    table: str | Path | None = None,
    prompt: str | None = None,
    columns: Mapping[str, str] | None = None,
    tell: Tell | None = None,
) -> PictureRows:
    """Rows of pictures, folders, tables, shards, data sets and standard input.

    A folder is its pictures, in order of name. Without `prompt`, a folder with metadata.csv, .jsonl or .parquet
    (`datasets`' imagefolder) is that table, and the prompt of any other picture is in a text file beside it. A folder
    without pictures is what it holds: a saved data set, Parquet files or shards. `reward.tables` says what a table can
    be; paths in it are relative to its own folder. `-` is a table on standard input, or with `prompt` a path a line.

    Args:
        columns: names of a table's columns image and prompt where they are others than the usual ones.
        tell: told, once a table, which columns were chosen.

    Raises:
        FileNotFoundError: nothing at a path.
        NoPromptError: pictures without any prompt.
        ValueError: no picture at all, or `prompt` for a table that has its own.
    """
    if prompt is not None and (problem := _unwritable(prompt)):
        raise ValueError(f"Prompt: {problem}")
    sources: list[Source] = []
    countable = True
    given = [name for path in paths for name in expanded(path)]
    for path in [*given, *(expanded(table) if table else [])]:
        if str(path) == STANDARD_INPUT:
            sources.append(_standard_input(prompt, columns, tell))
            continue
        forced = table is not None and path in expanded(table)
        as_tables = [path] if forced or is_table(path) else _tables_of(Path(path), prompt)
        if not as_tables:
            path = Path(path)
            if path.is_dir() and (names := _picture_names(path)):
                sources.append(_source(_folder_rows, path, names, prompt))
            else:
                # who gives no prompt is told that first, even where there is no picture either
                pictures = [path] if prompt is None and not path.is_dir() else find_pictures([path])
                sources.append(_source(_picture_rows, pictures, prompt))
            continue
        for one in as_tables:
            if not str(one).startswith("datasets:") and not Path(one).exists():
                raise FileNotFoundError(f"Expected a table, found none at {one}.")
            if Path(one).is_dir() and is_table(one):
                raise FileNotFoundError(f"Expected a table, found a folder at {one}.")
            countable = countable and not is_streamed(str(one))
            sources.append(_source(_table_rows, one, prompt, columns, _once(tell)))
    if not sources:
        raise ValueError("Expected pictures, a folder or a table to score, got none.")
    return PictureRows(sources, countable)


def _tables_of(path: Path, prompt: str | None) -> list[Path]:
    """What a folder is, if it is tables: with a prompt of one's own only where there are no pictures beside them."""
    if not path.is_dir() or (prompt is not None and _picture_names(path)):
        return []
    own = [file for file in tables_in(path) if file.parent == path or not _picture_names(path)]
    return own if prompt is None or not any(file.name.startswith("metadata.") for file in own) else []


def _once(tell: Tell | None) -> Tell | None:
    """On the first of several passes alone."""
    if tell is None:
        return None
    told: set[str] = set()
    return lambda line: None if line in told else (told.add(line), tell(line))


def _standard_input(prompt: str | None, columns: Mapping[str, str] | None, tell: Tell | None) -> Source:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("Expected a file instead of -: several processes cannot share standard input. Write it first.")
    file = spooled_input()
    if prompt is not None and file.suffix == ".csv":
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        if not names:
            raise ValueError("Expected the path of a picture a line on standard input, got nothing.")
        return _source(_picture_rows, [Path(name) for name in names], prompt)
    return _source(_table_rows, file, prompt, columns, _once(tell), "standard input", Path())


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


def _source(rows: Callable[..., Iterator[PictureRow]], *arguments: Any) -> Source:
    return lambda pictures=True: rows(*arguments, pictures=pictures)


def _folder_rows(
    folder: Path, names: list[str], prompt: str | None, *, pictures: bool = True
) -> Iterator[PictureRow]:
    return _picture_rows((folder / name for name in names), prompt)


def _picture_rows(paths: Iterable[Path], prompt: str | None, *, pictures: bool = True) -> Iterator[PictureRow]:
    for picture in paths:
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


def _table_rows(
    table: str | Path,
    prompt: str | None,
    columns: Mapping[str, str] | None,
    tell: Tell | None,
    title: str | None = None,
    folder: Path | None = None,
    *,
    pictures: bool = True,
) -> Iterator[PictureRow]:
    folder = Path(table).parent if folder is None else folder
    for where, image, text in _prompt_rows(table, prompt, columns, tell, title, pictures):
        stored = image if isinstance(image, StoredPicture) else None
        given = stored or (isinstance(image, str) and image.strip())
        path = stored.name if stored else placed(folder, image) if given else ""
        shown = text if isinstance(text, str) else ""
        problem = _unwritable(path) or _unwritable(shown)
        if not given:
            problem = f"expected the path of a picture but got {quoted(image)}; fill it in"
        elif not shown.strip():
            problem = f"expected a prompt but got {quoted(text)}; fill it in"
        yield PictureRow(path, shown, f"{where}: {problem}" if problem else "", stored)


def _prompt_rows(table, prompt, columns, tell, title, pictures) -> Iterator[tuple[str, Any, Any]]:
    if pictures or not is_streamed(str(table)):
        yield from read_prompt_table(table, columns, prompt=prompt, tell=tell, title=title)
        return
    named = {role: name for role, name in (columns or {}).items() if name}
    for row in read_dataset(str(table), asked_for(named, prompt, table, tell), pictures=False):
        yield row.where, row.cells["image"], row.cells.get("prompt", prompt)


def placed(folder: Path, name: str) -> str:
    """A table's path of a picture from where the command runs; with / for \\ where only that leads to a file."""
    path = folder / name
    if "\\" in name and not os.path.lexists(path):
        path = folder / name.replace("\\", "/")
    return str(path)


def _unwritable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"expected Unicode but got {ascii(text[:MOST])}; rename it"
    return ""
