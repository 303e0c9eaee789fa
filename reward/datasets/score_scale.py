"""Human scores on their own scale <-> the [0, 1] that HyperAlign is trained on."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoreScale:
    """unit = (score - low) / (high - low), with low and high from the training part alone.

    Scores of other parts outside the range are clipped: constants that knew of them would tell the model about the
    test part.

    Args:
        low, high: the scores that become 0 and 1.

    Raises:
        ValueError: not finite, or low not below high.
    """

    low: float
    high: float

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"Expected finite scores low < high but got {self.low} and {self.high}")

    @classmethod
    def fit(cls, scores_train: np.ndarray) -> "ScoreScale":
        """The smallest and largest score of the training part.

        Raises:
            ValueError: no scores, NaN or Inf, or all the same.
        """
        scores = np.asarray(scores_train, dtype=np.float64)
        if scores.size == 0 or not np.isfinite(scores).all():
            raise ValueError(f"Expected finite training scores but got {scores.size}, or NaN or Inf among them")
        if scores.min() == scores.max():
            raise ValueError(
                f"Expected training scores that differ but all {scores.size} are {scores.min()}; nothing can be "
                "learnt from them"
            )
        return cls(float(scores.min()), float(scores.max()))

    def to_unit(self, scores: np.ndarray) -> np.ndarray:
        """Raw scores, any shape -> float64 in [0, 1], clipped."""
        return np.clip((np.asarray(scores, dtype=np.float64) - self.low) / (self.high - self.low), 0, 1)

    def from_unit(self, units: np.ndarray) -> np.ndarray:
        """Back to the raw scale, float64; what lies outside [0, 1] stays outside."""
        return np.asarray(units, dtype=np.float64) * (self.high - self.low) + self.low
