"""Bootstrap confidence intervals of a mean over prompts."""

from collections.abc import Sequence

import numpy as np

_BOOTSTRAP_SAMPLES = 10_000


def bootstrap_interval(
    gains: np.ndarray, prompts: Sequence[str], seed: int = 0, level: float = 0.95
) -> list[float]:
    """Percentile bootstrap interval of the mean of (N,) gains. Prompts are resampled, each with all its pictures.

    Args:
        gains: (N,), one paired difference (after minus before) per picture.
        prompts: N names; pictures with the same name are resampled together.
        seed: of the resampling.
        level: confidence level, the share of resampled means inside the interval.

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
    for _ in range(10):  # in parts, because with thousands of prompts all draws at once would not fit into memory
        drawn = random.integers(len(sums), size=(_BOOTSTRAP_SAMPLES // 10, len(sums)))
        means.append(sums[drawn].sum(1) / sizes[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]
