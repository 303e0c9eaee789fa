"""Load the rated data set for `hyperalign train` and `evaluate`, optionally without rows that cannot be used."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reward.datasets import AlignmentDataset, load_dataset
from reward.files.quoting import quoted
from reward.images.preprocess import to_tensors
from reward.parallel.read_ahead import read_ahead
from reward.tables.rows import Tell
from reward.training.feature_cache import UnreadablePictures

_SHOWN = 10


def load_rated(
    name: str, path: str | Path, columns: Sequence[str], skip_bad: bool, tell: Tell | None = None
) -> AlignmentDataset:
    """A data set; with `skip_bad` without the rows that cannot be used and the pictures that cannot be decoded.

    Args:
        columns: ROLE=NAME of a table's columns.
        tell: told which columns of a table were chosen.

    Raises:
        ValueError: as `load_dataset`, an item of `columns` has no `=`, or a role has two columns.
        UnreadablePictures: with `skip_bad`, no image at all can be decoded.
    """
    dataset = load_dataset(name, path, skip_bad=skip_bad, columns=_named(columns), tell=tell)
    if not skip_bad:
        return dataset
    problems = _unreadable(dataset.images)
    if problems:
        if len(problems) == len(dataset):
            raise UnreadablePictures(list(problems), list(problems.values()))
        kept = dataset.subset(np.array([row not in problems for row in range(len(dataset))]))
        dataset = AlignmentDataset(
            kept.name, kept.images, kept.prompts, kept.scores, (*dataset.bad, *problems.values())
        )
    return dataset


def tell_main(line: str) -> None:
    """Say it on standard error, in the main process alone."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)


def tell_bad(dataset: AlignmentDataset) -> None:
    """Print the rows that were left out to standard error."""
    if not dataset.bad:
        return
    print(f"left out {len(dataset.bad)} of {len(dataset.bad) + len(dataset)} pairs:", file=sys.stderr)
    for line in dataset.bad[:_SHOWN]:
        print(f"  {line}", file=sys.stderr)
    if len(dataset.bad) > _SHOWN:
        print(f"  and {len(dataset.bad) - _SHOWN} more", file=sys.stderr)


def _unreadable(images: Sequence[Path]) -> dict[int, str]:
    """Row -> why its image cannot be decoded. Checked before training, so that all processes skip the same rows."""

    def problem(image: Path) -> str:
        try:
            to_tensors(image, keep_bytes=True)
        # a decoder can raise anything for a damaged file
        except Exception as error:
            return str(error) if isinstance(error, ValueError) else f"{image}: {type(error).__name__}: {error}"
        return ""

    return {row: found for row, (_, found) in enumerate(read_ahead(images, problem)) if found}


def _named(columns: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for word in columns:
        role, equals, name = word.partition("=")
        if not equals:
            raise ValueError(f"Expected --columns as ROLE=NAME, for example score=mos, but got {quoted(word)}")
        if named.get(role, name) != name:
            raise ValueError(
                f"Expected one column for {quoted(role)} in --columns but got {quoted(named[role])} and {quoted(name)}"
            )
        named[role] = name
    return named
