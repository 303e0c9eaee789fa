"""Ridge regression on backbone features: a simple baseline for the trained head."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reward.statistics.correlations import spearman

Terms = Literal["image", "additive", "cosine"]

_COMPONENTS = 256
_PENALTIES = np.logspace(-2, 5, 15)


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression; `predict` maps features (N, D) to scores (N,)."""

    terms: Terms
    image_mean: np.ndarray
    image_axes: np.ndarray
    text_mean: np.ndarray
    text_axes: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    weights: np.ndarray
    intercept: float

    def predict(self, image: np.ndarray, text: np.ndarray) -> np.ndarray:
        axes = (self.image_mean, self.image_axes, self.text_mean, self.text_axes)
        inputs = np.hstack(_blocks(self.terms, image, text, *axes))
        return (inputs - self.mean) / self.std @ self.weights + self.intercept


def fit_ridge(
    terms: Terms,
    image: np.ndarray,
    text: np.ndarray,
    scores: np.ndarray,
    val: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Ridge:
    """Fit a ridge regression on principal components. The penalty with the best validation Spearman is kept.

    Args:
        terms: the inputs. "image": 256 principal components of the unit image features. "additive": those and 256 of
            the unit text features, without interaction. "cosine": those and the cosine of the pair, which is the only
            term that depends on how image and text fit together.
        image, text: features of training pairs, each (N, D).
        scores: human scores of the training pairs, (N,).
        val: (image, text, scores) of validation pairs.
    """
    image_mean, image_axes = _principal_axes(_unit(image))
    text_mean, text_axes = _principal_axes(_unit(text))
    axes = (image_mean, image_axes, text_mean, text_axes)
    blocks = _blocks(terms, image, text, *axes)
    # One scale per block, so that components keep their relative size. Otherwise noise directions would weigh as much
    # as the first component.
    std = np.concatenate([np.full(block.shape[1], max(block.std(0).max(), 1e-12)) for block in blocks])
    inputs = np.hstack(blocks)
    mean = inputs.mean(0)
    x, y = (inputs - mean) / std, scores - scores.mean()
    values, vectors = np.linalg.eigh(x.T @ x)
    projected = vectors.T @ (x.T @ y)
    candidates = [
        Ridge(terms, *axes, mean, std, vectors @ (projected / (values + penalty)), float(scores.mean()))
        for penalty in _PENALTIES
    ]
    quality = [spearman(candidate.predict(*val[:2]), val[2]) for candidate in candidates]
    return candidates[int(np.nanargmax(quality)) if np.isfinite(quality).any() else 0]


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _principal_axes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = features.mean(0)
    centred = features - mean
    # eigenvectors of the (D, D) scatter matrix: cheaper than a singular value decomposition of (N, D)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return mean, axes[:, ::-1][:, : min(_COMPONENTS, *features.shape)]


def _blocks(terms, image, text, image_mean, image_axes, text_mean, text_axes) -> list[np.ndarray]:
    image, text = _unit(image), _unit(text)
    blocks = [(image - image_mean) @ image_axes]
    if terms != "image":
        blocks.append((text - text_mean) @ text_axes)
    if terms == "cosine":
        blocks.append((image * text).sum(1, keepdims=True))
    return blocks
