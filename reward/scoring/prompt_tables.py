"""Tables that pair pictures with prompts, row by row; never a whole file in memory."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reward.tables.reading import read_table
from reward.tables.rows import Asked, Tell

_ROLES = ("image", "prompt")


def read_prompt_table(
    source: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    prompt: str | None = None,
    tell: Tell | None = None,
    title: str | None = None,
) -> Iterator[tuple[str, Any, Any]]:
    """(where, image, prompt) of every row: file and line for messages, the cells as they were found.

    Args:
        source: as `reward.tables.reading.read_table` takes it.
        columns: names of the columns image and prompt where they are others than the usual ones.
        prompt: of every row of a table that has no column of prompts.
        tell: told which columns were chosen.
        title: what messages call the table.

    Raises:
        ValueError: another suffix, no such columns, a file that is no CSV, JSON lines, Parquet or UTF-8, or `prompt`
            for a table that has its own; the message names file and line.
    """
    named = {role: name for role, name in (columns or {}).items() if name}
    for row in read_table(source, asked_for(named, prompt, title or source, tell), title):
        if row.problem:
            # a line that cannot be taken apart leaves in doubt all that follow it
            raise ValueError(f"{row.where}: {row.problem}")
        yield row.where, row.cells["image"], row.cells.get("prompt", prompt)


def asked_for(named: Mapping[str, str], prompt: str | None, title: str | Path, tell: Tell | None) -> Asked:
    """Picture and prompt; with a `prompt` of one's own no column of prompts."""
    if prompt is None:
        return Asked(_ROLES, named, tell=tell)
    why = f"Expected no prompt beside the table {title}, whose rows have their own."
    return Asked(_ROLES, named, ("prompt",), {"prompt": why}, tell)
