"""The table of a VQA evaluation: the score of each row and its gain over the first row, with intervals."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reward.files.writing import write_text

_SAMPLES = 2000
COLUMNS = ("row", "questions", "score", "low", "high", "gain", "gain_low", "gain_high")


def score_table(scores: Mapping[str, Sequence[float]], images: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """Mean scores in percent with 95 % intervals, and the paired gain over the first row.

    The intervals are a bootstrap over pictures: questions about one picture are not independent, so each picture is
    drawn with all its questions. All rows use the same draws, because they answer the same questions.

    Args:
        scores: row -> N scores in [0, 1]. The others are compared to the first row.
        images: the picture of each question, N names.
        seed: seed of the bootstrap.

    Returns:
        a dictionary with `COLUMNS` for each row; the first row has no gain.
    """
    columns = 100 * np.stack([np.asarray(values, dtype=float) for values in scores.values()], axis=1)
    draws = image_bootstrap(columns, images, seed)
    rows = []
    for i, name in enumerate(scores):
        low, high = _interval(draws[:, i])
        row = {"row": name, "questions": len(columns), "score": float(columns[:, i].mean()), "low": low, "high": high}
        if i:
            gain_low, gain_high = _interval(draws[:, i] - draws[:, 0])
            row |= {"gain": float((columns[:, i] - columns[:, 0]).mean()), "gain_low": gain_low, "gain_high": gain_high}
        rows.append(row)
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> Path:
    """Write the rows as CSV, whole or not at all, with four digits for floats. Returns `path`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({key: f"{v:.4f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    return write_text(path, text.getvalue())


def format_table(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The rows as a Markdown table.

    Example:
        >>> print(format_table(score_table({"base": [1, 0], "residual": [1, 1]}, ["a", "b"]), "exact match"))
        | row | exact match, % | gain over base |
        |---|---|---|
        | base | 50.0 (0.0 to 100.0) | |
        | residual | 100.0 (100.0 to 100.0) | +50.0 (+0.0 to +100.0) |
    """
    lines = [f"| row | {metric}, % | gain over {rows[0]['row']} |", "|---|---|---|"]
    for row in rows:
        gain = ""
        if "gain" in row:
            gain = f" {row['gain']:+.1f} ({row['gain_low']:+.1f} to {row['gain_high']:+.1f})"
        lines.append(f"| {row['row']} | {row['score']:.1f} ({row['low']:.1f} to {row['high']:.1f}) |{gain} |")
    return "\n".join(lines)


def image_bootstrap(columns: np.ndarray, images: Sequence[str], seed: int = 0) -> np.ndarray:
    """Bootstrap over pictures: (N, K) scores of N questions -> (samples, K) means."""
    _, cluster = np.unique(np.asarray(images), return_inverse=True)
    sizes = np.bincount(cluster)
    sums = np.zeros((len(sizes), columns.shape[1]))
    np.add.at(sums, cluster, columns)
    random = np.random.default_rng(seed)
    drawn = (random.integers(len(sizes), size=len(sizes)) for _ in range(_SAMPLES))
    return np.stack([sums[rows].sum(0) / sizes[rows].sum() for rows in drawn])


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
