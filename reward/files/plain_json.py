"""Read JSON files that may come from an untrusted source."""

import json
from pathlib import Path
from typing import Any

from reward.files.quoting import shortened


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON, or its value is not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path} but got {shortened(error)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object in {path} but got a {type(value).__name__}")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty dict if the file does not exist.

    Raises:
        ValueError: the file is not JSON, or its value is not an object.
    """
    return read_object(path) if path.is_file() else {}
