"""Score many pictures: in batches, decoded in the background, in parts that an interrupted run need not repeat.

The same rows are in the same batches on every run and in every number of processes, so that their scores are the same
to the last bit: which batch a picture is in changes its score by a rounding error.
"""

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from reward.files.digests import state_digest
from reward.images.preprocess import ImageTransform, to_tensors
from reward.parallel.processes import Processes
from reward.parallel.read_ahead import read_ahead
from reward.scoring.inputs import PictureRow, PictureRows
from reward.scoring.parts import PartFolder, Record, write_scores

if TYPE_CHECKING:
    from reward.hyperalign_reward import HyperAlignReward

BATCH_SIZE = 32
# A part is what a killed run loses at most, and what processes share the work by.
PART_BATCHES = 4
# Part of a part's key: a change of how pictures are read or scored needs another number.
_VERSION = 2


@dataclass(frozen=True)
class Part:
    """Some consecutive rows; the key tells them, their pictures' state on disk, and the model."""

    index: int
    key: str
    rows: tuple[PictureRow, ...]


class Engine(Protocol):
    """Workers that score parts in the place of this process: `reward.scoring.ray_engine.RayEngine`."""

    def model_key(self) -> str:
        """`model_digest` of their model."""
        ...

    def score_parts(
        self, parts: Iterable[Part], batch_size: int, advance: Callable[[int], object]
    ) -> Iterator[tuple[Part, list[Record]]]:
        """As the function of that name, in any order."""
        ...


@dataclass
class ScoreCount:
    """What became of the rows: how many have a score, and one line for each that has none."""

    scored: int = 0
    unreadable: int = 0


def split_rows(
    rows: Iterable[PictureRow], batch_size: int, model_key: str, share: tuple[int, int] = (0, 1)
) -> Iterator[Part]:
    """Rows as parts of `PART_BATCHES` batches; of them, as `share` (rank, count) says, every count-th from rank on."""
    rows = iter(rows)
    rank, count = share
    parts = iter(lambda: tuple(islice(rows, batch_size * PART_BATCHES)), ())
    for index, part in enumerate(parts):
        # The others' pictures are not even looked at: each process would ask the disk about all of them.
        if index % count != rank:
            continue
        digest = hashlib.sha256(f"{_VERSION} {model_key} {batch_size}".encode())
        for row in part:
            state = _state_on_disk(row.path) if row.stored is None else row.stored.state()
            digest.update(json.dumps([row.path, row.prompt, row.problem, state]).encode())
        yield Part(index, digest.hexdigest()[:32], part)


def score_parts(
    reward: "HyperAlignReward",
    parts: Iterable[Part],
    batch_size: int,
    advance: Callable[[int], object] = lambda rows: None,
) -> Iterator[tuple[Part, list[Record]]]:
    """Each part with a record a row, in order: path, prompt and score, or path and error.

    Args:
        reward: on any device.
        advance: told how many rows more are done.
    """
    transform = reward.backbone.transform
    records: list[Record] = []
    with closing(read_ahead(_batches(parts, batch_size), lambda batch: _read(batch[1], transform))) as batches:
        for (part, rows), (pictures, problems) in batches:
            if not records:
                # which prompts are encoded together must not depend on the parts before
                reward.backbone.clear_cache()
            records += _score(reward, rows, pictures, problems)
            advance(len(rows))
            if len(records) == len(part.rows):
                yield part, records
                records = []


def score_to_file(
    reward: "HyperAlignReward | None",
    rows: Iterable[PictureRow],
    output: Path,
    *,
    batch_size: int = BATCH_SIZE,
    processes: Processes | None = None,
    total: int | None = None,
    progress: bool = True,
    engine: "Engine | None" = None,
) -> tuple[ScoreCount, Iterator[str]]:
    """Score rows into a CSV, JSONL or Parquet file; what an interrupted run finished is not done again.

    Finished parts lie in a hidden folder beside `output` until it is written, and stay there if some pictures could not
    be read: when they are fixed, only their parts are scored again. With several processes each does its share of the
    parts, and the main one writes the file.

    Args:
        rows: passed over twice.
        processes: of this run; all must see the folder.
        total: number of rows, for the bar.
        progress: show a bar.
        engine: workers that score in the place of `reward`, which is then None.

    Returns:
        how many rows have a score and how many have none; and, to be read at leisure, a line for each of the latter.
        In processes other than the main one nothing.

    Raises:
        FileNotFoundError: a picture changed while it was scored.
    """
    from tqdm import tqdm

    processes = processes or Processes()
    folder = PartFolder(output)
    model_key = engine.model_key() if engine else model_digest(reward)
    count = ScoreCount()
    share = None if total is None else _share(total, processes, batch_size)
    bar = tqdm(desc="pictures", total=share, disable=not (progress and processes.is_main))

    def missing() -> Iterator[Part]:
        for part in split_rows(rows, batch_size, model_key, (processes.rank, processes.count)):
            if folder.has(part.index, part.key):
                bar.update(len(part.rows))
            else:
                yield part

    with bar:
        score = engine.score_parts if engine else functools.partial(score_parts, reward)
        for part, records in score(missing(), batch_size, bar.update):
            folder.write(part.index, part.key, records)
    processes.wait()
    bad_parts: list[tuple[int, str]] = []
    if not processes.is_main:
        return count, iter(())

    def finished() -> Iterator[Record]:
        again = rows.without_pictures() if isinstance(rows, PictureRows) else rows
        for part in split_rows(again, batch_size, model_key):
            before = count.unreadable
            for record in folder.read(part.index, part.key):
                count.scored += "score" in record
                count.unreadable += "score" not in record
                yield record
            if count.unreadable > before:
                bad_parts.append((part.index, part.key))

    write_scores(output, finished())
    if not bad_parts:
        folder.remove()
    problems = (
        record["error"] for index, key in bad_parts for record in folder.read(index, key) if "score" not in record
    )
    return count, problems


def model_digest(reward: "HyperAlignReward") -> str:
    """Of everything that a score depends on: weights, configuration, transform, precision, kind of device."""
    backbone = reward.backbone
    settings = [reward.config.to_dict(), backbone.model_config, backbone.preprocess_config, str(backbone.device.type)]
    if getattr(backbone, "int8", None) is not None:
        settings.append("int8")
    return state_digest(settings, reward.state_dict())


def _state_on_disk(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)
    # ValueError: a NUL in it
    except (OSError, ValueError):
        return None
    return state.st_size, state.st_mtime_ns


def _share(total: int, processes: Processes, batch_size: int) -> int:
    """How many of the rows are in this process's parts."""
    size = batch_size * PART_BATCHES
    starts = range(processes.rank * size, total, processes.count * size)
    return sum(min(size, total - start) for start in starts)


def _batches(parts: Iterable[Part], batch_size: int) -> Iterator[tuple[Part, tuple[PictureRow, ...]]]:
    for part in parts:
        for start in range(0, len(part.rows), batch_size):
            yield part, part.rows[start : start + batch_size]


def _read(rows: tuple[PictureRow, ...], transform: ImageTransform) -> tuple[Tensor | None, dict[int, str]]:
    """(B,3,H,W) of the model's own size in [0, 1] of those that can be read; row in the batch -> problem of the others.

    Here, in a background thread, and not in the model's own forward pass: a picture of many megapixels is then held
    small.
    """
    pictures, problems = [], {}
    for i, row in enumerate(rows):
        try:
            if row.problem:
                raise ValueError(row.problem)
            pictures.append(transform.fit(to_tensors(row.picture, keep_bytes=True)))
        # whatever a decoder does with a damaged file, it is not the end of a long run
        except Exception as error:
            known = isinstance(error, ValueError)
            problems[i] = str(error) if known else f"{row.path}: {type(error).__name__}: {error}"
    return (torch.cat(pictures) if pictures else None), problems


@torch.no_grad()
def _score(
    reward: "HyperAlignReward", rows: tuple[PictureRow, ...], pictures: Tensor | None, problems: dict[int, str]
) -> list[Record]:
    prompts = [row.prompt for i, row in enumerate(rows) if i not in problems]
    scores = iter(reward(pictures, prompts).float().tolist() if prompts else ())
    records = []
    for i, row in enumerate(rows):
        error = problems.get(i)
        if error is None and not math.isfinite(score := next(scores)):
            error = f"{row.path}: the model's score is no finite number ({score}); load it in float32"
        if error is None:
            records.append({"path": row.path, "prompt": row.prompt, "score": score})
        else:
            records.append({"path": row.path, "error": error})
    return records
