"""Data sets of Hugging Face: `datasets:NAME_OR_FOLDER?split=train&streaming=1`, or a folder of `save_to_disk`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from reward.files.quoting import quoted, shortened
from reward.tables.columns import described
from reward.tables.rows import Asked, HeldPicture, StoredPicture, TableRow

HUB_PREFIX = "datasets:"
_OPTIONS = ("split", "config", "streaming", "revision")
_SAVED = ("state.json", "dataset_dict.json")
_FORM = "datasets:NAME_OR_FOLDER?split=SPLIT&config=CONFIG&streaming=1"


def is_saved_dataset(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` wrote the folder."""
    return any((folder / name).is_file() for name in _SAVED)


def read_dataset(spec: str, asked: Asked, pictures: bool = True) -> Iterator[TableRow]:
    """Rows of a data set; its name in outputs is the spec without options, and the row's number, 1 the first.

    Args:
        spec: as above, or the folder of `save_to_disk`.
        pictures: without, a streamed set is passed over for its prompts alone.

    Raises:
        ValueError: a spec of another form, a set that cannot be loaded, a missing column.
    """
    data, title = _load(spec)
    names = data.column_names or list(next(iter(data), {}))
    columns = asked.find(names, title)
    if asked.tell:
        asked.tell(described(title, columns))
    return _rows(data, columns, title, pictures)


def is_streamed(spec: str) -> bool:
    """Whether the set's length is unknown and its pictures are passed over once."""
    _, _, query = spec.partition("?")
    return spec.startswith(HUB_PREFIX) and dict(parse_qsl(query)).get("streaming", "") in ("1", "true", "True")


def _load(spec: str) -> tuple[Any, str]:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"Expected the package datasets for {spec}; pip install datasets") from error
    if not spec.startswith(HUB_PREFIX):
        found = _loaded(spec, lambda: datasets.load_from_disk(spec))
        if isinstance(found, datasets.DatasetDict):
            if len(found) != 1:
                raise ValueError(
                    f"Expected one split in {spec} but it has {', '.join(found)}; give the folder of one of them"
                )
            found = next(iter(found.values()))
        return found, spec
    name, _, query = spec.removeprefix(HUB_PREFIX).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not name or (unknown := set(options) - set(_OPTIONS)):
        more = f" with {', '.join(sorted(unknown))}" if name else ""
        raise ValueError(f"Expected {_FORM} but got {spec!r}{more}")
    split = options.get("split", "train")
    if Path(name).is_dir() and is_saved_dataset(Path(name)):
        found = _loaded(spec, lambda: datasets.load_from_disk(name))
        if isinstance(found, datasets.DatasetDict):
            if split not in found:
                raise ValueError(f"Expected a split of {name}, {', '.join(found)}, but got {split!r}")
            found = found[split]
        return (found.to_iterable_dataset() if is_streamed(spec) else found), name
    more = {"streaming": is_streamed(spec), "revision": options.get("revision")}
    return _loaded(spec, lambda: datasets.load_dataset(name, options.get("config"), split=split, **more)), name


def _loaded(spec: str, load: Any) -> Any:
    try:
        return load()
    # the library raises many kinds; each says what is missing
    except Exception as error:
        raise ValueError(f"{spec} could not be loaded: {type(error).__name__}: {shortened(error)}") from error


def _rows(data: Any, columns: dict[str, str], title: str, pictures: bool) -> Iterator[TableRow]:
    import datasets

    image = columns["image"]
    others = {role: name for role, name in columns.items() if role != "image"}
    if data.features and isinstance(data.features.get(image), datasets.Image):
        data = data.cast_column(image, datasets.Image(decode=False))
    streamed = isinstance(data, datasets.IterableDataset)
    texts = data.select_columns(list(others.values()))
    cells = data.select_columns([image])
    stream = data.select_columns([*others.values(), image]) if streamed and pictures else texts
    if not others:
        stream = data if streamed else ({} for _ in range(len(data)))
    for row, record in enumerate(stream):
        found = {role: record[name] for role, name in others.items()}
        name = f"{title}#{row + 1}"
        if not streamed:
            kind = data.features.get(image)
            plain = getattr(kind, "dtype", None) == "string" and not isinstance(kind, datasets.Image)
            found["image"] = cells[row][image] if plain else DatasetPicture(name, row, image, cells)
        else:
            found["image"] = _held(record.get(image), name) if pictures else HeldPicture(name, b"")
        yield TableRow(f"{title}, row {row + 1}", {role: found[role] for role in columns})


def _held(cell: Any, name: str) -> Any:
    """A streamed cell as a picture; what is none stays what it is."""
    if isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes):
        return HeldPicture(name, cell["bytes"])
    if isinstance(cell, bytes):
        return HeldPicture(name, cell)
    if isinstance(cell, dict) and isinstance(cell.get("path"), str):
        return HeldFile(name, cell["path"])
    return cell


@dataclass(frozen=True)
class HeldFile(StoredPicture):
    """The file at a path that a data set names; its place in the set is its name."""

    name: str
    path: str

    def read(self) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise ValueError(f"expected a picture at {self.path} but got {error}") from error

    def state(self) -> list[Any]:
        return []


@dataclass(frozen=True)
class DatasetPicture(StoredPicture):
    """The picture in a row of a data set on disk."""

    name: str
    row: int
    column: str
    cells: Any = field(repr=False, compare=False, hash=False)

    def read(self) -> bytes:
        picture = _held(self.cells[self.row][self.column], self.name)
        if not isinstance(picture, StoredPicture):
            raise ValueError(f"expected a picture but the cell {self.column!r} holds {quoted(picture)}; fill it in")
        return picture.read()

    def state(self) -> list[Any]:
        return [self.cells._fingerprint, self.row]
