"""JSON files that may come from strangers."""

import json
from pathlib import Path
from typing import Any

from reward.files.quoting import shortened


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: it is not JSON, or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path} but got {shortened(error)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object in {path} but got a {type(value).__name__}")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file.

    Raises:
        ValueError: it holds something else.
    """
    return read_object(path) if path.is_file() else {}
