"""How sure is a mean over prompts? Intervals by bootstrap."""

from collections.abc import Sequence

import numpy as np

_BOOTSTRAP_SAMPLES = 10_000


def bootstrap_interval(
    gains: np.ndarray, prompts: Sequence[str], seed: int = 0, level: float = 0.95
) -> list[float]:
    """Percentile interval of the mean of (N,) gains; prompts are drawn anew, with all their pictures.

    Args:
        gains: one a picture, paired: what came after minus what was before.
        prompts: N names; pictures with the same name are drawn together.
        seed: of the draws.
        level: share of the draws between the two ends.

    Returns:
        [low, high].

    Example:
        >>> bootstrap_interval(np.array([0.1, 0.1, 0.1]), ["a", "b", "c"])
        [0.1, 0.1]
    """
    _, clusters = np.unique(np.array(prompts), return_inverse=True)
    sums, sizes = np.bincount(clusters, weights=gains), np.bincount(clusters)
    random = np.random.default_rng(seed)
    means = []
    for _ in range(10):  # in parts: the draws of thousands of prompts would fill memory
        drawn = random.integers(len(sums), size=(_BOOTSTRAP_SAMPLES // 10, len(sums)))
        means.append(sums[drawn].sum(1) / sizes[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]
