"""Rows of an annotation file -> AlignmentDataset: what a row must hold, and what becomes of one that does not."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from reward.datasets.alignment_dataset import AlignmentDataset
from reward.files.quoting import quoted, shortened
from reward.tables.rows import StoredPicture


@dataclass(frozen=True)
class Row:
    """One line of an annotation file as it was found, nothing checked.

    Args:
        where: file and line, for messages.
        images: the picture's path relative to one of `folders`, or absolute; of several the first that exists.
        folders: where to look for it, the usual one first.
        problem: why the line could not be taken apart; then the rest is not looked at.
        stored: the picture, where it lies inside a larger file; then `images` is not looked at.
    """

    where: str
    images: tuple[object, ...] = ()
    prompt: object = None
    score: object = None
    folders: tuple[Path, ...] = ()
    problem: str = ""
    stored: StoredPicture | None = None


def gather(name: str, rows: Iterable[Row], *, skip_bad: bool, check_images: bool) -> AlignmentDataset:
    """Check every row and keep the good ones.

    Raises:
        ValueError: bad rows without `skip_bad`, or no good row at all. All rows are checked first: who mends a file
            wants to know how many there are.
    """
    images, prompts, scores, bad = [], [], [], []
    for row in rows:
        try:
            # All three first: a row that fails halfway must leave nothing behind.
            image, prompt, score = _image(row, check_images), _prompt(row.prompt), _score(row.score)
        except ValueError as error:
            bad.append(f"{row.where}: {error}")
        else:
            images.append(image)
            prompts.append(prompt)
            scores.append(score)
    if bad and not (skip_bad and images):
        count = f"{len(bad)} of {len(bad) + len(images)} rows"
        way_out = " or leave such rows out with skip_bad=True (--skip-bad)" if images else " (no row is left)"
        first = "The first" if len(bad) > 1 else "It"
        raise ValueError(f"{bad[0]}. {first} of {count} of {name} that cannot be used; mend the file{way_out}")
    if not images:
        raise ValueError(f"Expected at least one annotated picture in {name} but its file has no rows")
    return AlignmentDataset(name, tuple(images), tuple(prompts), scores, tuple(bad))


def _image(row: Row, check: bool) -> Path | StoredPicture:
    if row.problem:
        raise ValueError(row.problem)
    if row.stored is not None:
        return row.stored
    for image in row.images:
        if not isinstance(image, str) or not image.strip():
            raise ValueError(f"expected the path of a picture but got {_shown(image)}; fill it in")
    places = [folder / image for image in row.images for folder in row.folders]
    if len(places) == 1 and not check:
        return places[0]
    if any("\\" in str(image) for image in row.images):
        # a table from Windows; a name with a backslash in it comes first
        places += [folder / str(image).replace("\\", "/") for image in row.images for folder in row.folders]
    found = next((place for place in places if _is_file(place)), None)
    if not check:
        return found or places[0]
    if found is None:
        raise ValueError(
            f"expected a picture at {' or '.join(map(shortened, places))} but there is none; put it there or "
            "correct the path"
        )
    # Whether it can be decoded shows when its features are computed: opening thousands of files here takes seconds.
    if found.stat().st_size == 0:
        raise ValueError(f"expected a picture but {shortened(found)} is empty; fetch it again")
    return found


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:  # a name longer than the file system allows
        return False


def _prompt(prompt: object) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"expected a prompt but got {_shown(prompt)}; fill it in")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"expected a prompt in Unicode but got half a surrogate pair in {quoted(prompt)}") from error
    return prompt


def _score(score: object) -> float:
    if isinstance(score, bool) or not isinstance(score, (int, float, Decimal)):
        comma = "; write decimals with a point" if isinstance(score, str) and "," in score else ""
        raise ValueError(f"expected a number as score but got {_shown(score)}{comma}; correct it")
    try:
        value = float(score)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"expected a finite score but got {value}; correct it")
    return value


def _shown(value: object) -> str:
    if value is None or value == "":
        return "nothing"
    return f"{quoted(value)} ({type(value).__name__})"
