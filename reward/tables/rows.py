"""What every reader of a table gives: rows with the cells that were asked for, and pictures that lie inside a file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward.tables.columns import find_columns

Tell = Callable[[str], object]


@dataclass(frozen=True)
class TableRow:
    """One row as it was found, nothing checked.

    Args:
        where: file and line or row, for messages.
        cells: role -> value. A picture's is the text of a path, a `StoredPicture`, or whatever else stood there.
        problem: why the line could not be taken apart; then there are no cells.
    """

    where: str
    cells: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Asked:
    """What is wanted of a table.

    Args:
        roles: of `USUAL_NAMES`, those that are needed.
        named: role -> column, where the user said which.
        optional: roles that may be missing.
        refused: role -> why its column may not be there.
        tell: told which columns were chosen.
    """

    roles: tuple[str, ...]
    named: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    tell: Tell | None = None

    def find(self, present: Sequence[str], where: str = "") -> dict[str, str]:
        """Role -> column, see `find_columns`.

        Raises:
            ValueError: a needed column is missing, or a refused one is there.
        """
        found = find_columns(present, self.roles, self.named, where, self.optional)
        for role, why in self.refused.items():
            if role in found:
                raise ValueError(why)
        return found


class StoredPicture(ABC):
    """A picture inside a larger file; small to hold, to be compared, pickled and used as a key.

    Attributes:
        name: what tells it from others in outputs and messages.
    """

    name: str

    @abstractmethod
    def read(self) -> bytes:
        """The encoded picture.

        Raises:
            ValueError: it is not there, or cannot be read.
        """

    @abstractmethod
    def state(self) -> list[Any]:
        """What changes when the picture may have changed; JSON."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class HeldPicture(StoredPicture):
    """A picture that is in memory, since its source is passed over once."""

    name: str
    content: bytes = field(repr=False)

    def read(self) -> bytes:
        return self.content

    def state(self) -> list[Any]:
        # not the content: a pass without pictures must find the same
        return []


def file_state(path: Path) -> list[Any]:
    """Size and time of change of a file; nothing where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
