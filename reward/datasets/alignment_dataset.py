"""AlignmentDataset: pictures, prompts and human scores, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reward.tables.rows import StoredPicture


@dataclass(frozen=True, eq=False)
class AlignmentDataset:
    """Row i: the picture `images[i]` was made from `prompts[i]`, and people gave their alignment `scores[i]`.

    Args:
        name: of the set.
        images: paths, or pictures inside a larger file, N.
        prompts: as written in the annotation file, N.
        scores: raw human alignment scores, (N,) float64, on the set's own scale; more is better.
        bad: what was left out of the file, one line each, with file, line and mend.

    Raises:
        ValueError: lengths that differ.
    """

    name: str
    images: tuple[Path | StoredPicture, ...]
    prompts: tuple[str, ...]
    scores: np.ndarray
    bad: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        if not len(self.images) == len(self.prompts) or self.scores.shape != (len(self.images),):
            raise ValueError(
                f"Expected as many images and prompts as scores (N,) but got {len(self.images)}, {len(self.prompts)} "
                f"and {self.scores.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "AlignmentDataset":
        """The rows of these numbers, or of a boolean mask (N,), in this order; `bad` stays.

        Raises:
            IndexError: a number outside the rows.
        """
        rows = np.arange(len(self))[np.asarray(indices, dtype=None if len(indices) else np.int64)]
        return replace(
            self,
            images=tuple(self.images[i] for i in rows),
            prompts=tuple(self.prompts[i] for i in rows),
            scores=self.scores[rows],
        )
