"""Pictures for the report, only from inside the run folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward.pages.pictures import EmbeddedPicture, embed_picture

_GRID_SIDE = 1200  # pixels


@dataclass(frozen=True)
class Grids:
    """The first and the last grid of training as (name, picture), and the `count` of grids in samples/."""

    count: int
    shown: list[tuple[str, EmbeddedPicture | None]]


def embed(run_dir: Path, name: Any, longest_side: int) -> EmbeddedPicture | None:
    """A picture by its path in the run folder; None if the folder has no such picture."""
    root = run_dir.resolve()
    path = (root / str(name)).resolve()
    if not name or not path.is_relative_to(root) or not path.is_file():
        return None
    return embed_picture(path, longest_side)


def sample_grids(run_dir: Path) -> Grids | None:
    """The grids in samples/; None if there are none."""
    grids = sorted((run_dir / "samples").glob("*.png"), key=_natural_order)
    if not grids:
        return None
    shown = grids if len(grids) < 3 else [grids[0], grids[-1]]
    return Grids(len(grids), [(grid.stem, embed(run_dir, grid.relative_to(run_dir), _GRID_SIDE)) for grid in shown])


def _natural_order(path: Path) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]
