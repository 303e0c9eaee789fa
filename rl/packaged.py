"""What the package itself brings: recipes and weights of the tiny world, by name."""

import importlib.util
from pathlib import Path


def resolve_packaged(name: str) -> str:
    """`tinyworld:NAME` as the folder of the packaged weights; any other name as it is."""
    if not name.startswith("tinyworld:"):
        return name
    from tinyworld import weights_path

    return str(weights_path(name.removeprefix("tinyworld:")))


def packaged_recipe(name: str) -> Path:
    """A recipe of tinyworld."""
    # Found without importing tinyworld, so that --help stays fast.
    return Path(importlib.util.find_spec("tinyworld").origin).parent / name
