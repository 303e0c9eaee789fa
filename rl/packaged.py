"""Recipes and weights of the tiny world that are part of the package, by name."""

import importlib.util
from pathlib import Path


def resolve_packaged(name: str) -> str:
    """`tinyworld:NAME` becomes the folder of the packaged weights; other names stay as they are."""
    if not name.startswith("tinyworld:"):
        return name
    from tinyworld import weights_path

    return str(weights_path(name.removeprefix("tinyworld:")))


def packaged_recipe(name: str) -> Path:
    """Path of a packaged recipe, e.g. "ddpo.yaml"."""
    # tinyworld is not imported here, so that --help stays fast.
    return Path(importlib.util.find_spec("tinyworld").origin).parent / name
