"""Measures alignment exactly: finds the objects of a tiny-world picture and checks each fact of the prompt.

The steps: enlarge, median filter, hue of the coloured pixels, connected components, then the template (ring, square,
triangle) of equal area that overlaps most. Nothing is learned, so training on a reward raises the oracle's score only
by drawing what the prompt says.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy import ndimage

from tinyworld.scenes import COLOURS, RADIUS_RANGE, SHAPES, Kind, Prompt, SceneObject, parse_prompt, shape_distance

_READING_SIZE = 96  # pixels a side at which every picture is read
_COLOURED = 0.35  # chroma (max - min) above which a pixel belongs to an object; objects: 0.6 to 0.76, background: 0
_LEAST_OVERLAP = 0.70  # least intersection over union with the best template; a blob below it has no shape
_LEAST_AREA = 0.45  # as a share of the smallest object's area; smaller blobs are ignored
_HUES = np.array([0, 60, 120, 180, 240, 300])  # in the order of COLOURS


@dataclass(frozen=True)
class Fact:
    """One checkable statement of a prompt.

    Attributes:
        kind: ``"object"`` (there is exactly one such object; at least one if the prompt also gives a number),
            ``"count"`` or ``"relation"``.
        text: the statement in words.
    """

    kind: str
    text: str


def prompt_facts(prompt: Prompt) -> tuple[Fact, ...]:
    """The facts of a prompt, in a fixed order.

    Example:
        >>> from tinyworld.scenes import parse_prompt
        >>> [fact.text for fact in prompt_facts(parse_prompt("a red ring left of a blue square"))]
        ['a red ring', 'a blue square', 'a red ring left of a blue square']
    """
    if prompt.second is None:
        return Fact("object", f"a {prompt.first}"), Fact("count", f"exactly {('one', 'two')[prompt.count - 1]}")
    facts = [Fact("object", f"a {prompt.first}"), Fact("object", f"a {prompt.second}")]
    if prompt.relation:
        facts.append(Fact("relation", prompt.text))
    return tuple(facts)


def read_scene(picture: np.ndarray) -> list[SceneObject]:
    """Finds the objects of a picture.

    Args:
        picture: (H, W, 3) float in [0, 1].

    Returns:
        the objects whose colour and shape are recognised, largest first.
    """
    picture = _smooth(picture)
    size = picture.shape[0]
    chroma = picture.max(-1) - picture.min(-1)
    coloured = chroma > _COLOURED
    nearest = np.where(coloured, _nearest_hue(picture, chroma), -1)
    least_area = _LEAST_AREA * np.pi * (RADIUS_RANGE[0] * size) ** 2
    found = []
    for index, colour in enumerate(COLOURS):
        mask = nearest == index
        if mask.sum() < least_area:
            continue
        labels, count = ndimage.label(mask)
        for label in range(1, count + 1):
            ys, xs = np.nonzero(labels == label)
            if len(ys) < least_area:
                continue
            shape = _best_shape(ys, xs, size)
            if shape:
                radius = np.sqrt(len(ys) / np.pi) / size
                centre = ((xs.mean() + 0.5) / size, (ys.mean() + 0.5) / size)
                found.append(SceneObject(Kind(colour, shape), *centre, radius))
    return sorted(found, key=lambda item: -item.radius)


def facts_that_hold(objects: list[SceneObject], prompt: Prompt) -> tuple[bool, ...]:
    """For each of `prompt_facts(prompt)`, whether it holds among the objects."""
    firsts = [item for item in objects if item.kind == prompt.first]
    if prompt.second is None:
        return len(firsts) >= 1, len(firsts) == prompt.count
    seconds = [item for item in objects if item.kind == prompt.second]
    holds = [len(firsts) == 1, len(seconds) == 1]
    if prompt.relation:
        holds.append(all(holds) and relation_between(firsts[0], seconds[0]) == prompt.relation)
    return tuple(holds)


def relation_between(one: SceneObject, two: SceneObject) -> str:
    """Where the first object is relative to the second. The axis with the larger distance decides."""
    dx, dy = two.x - one.x, two.y - one.y
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


def share_of_facts(picture: np.ndarray, prompt: Prompt) -> float:
    """Share of the prompt's facts that hold in a (H, W, 3) picture: 0 to 1."""
    return float(np.mean(facts_that_hold(read_scene(picture), prompt)))


def oracle_reward(images: torch.Tensor, prompts, metadata=None) -> tuple[torch.Tensor, dict]:
    """The oracle as an RL reward function. The demo only measures with it and never trains on it.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        prompts: B prompts of the grammar.
        metadata: ignored.

    Returns:
        ((B,) share of facts that hold, 0 to 1; empty info).

    Raises:
        ValueError: not one prompt per picture, or a prompt outside the grammar.
    """
    if len(images) != len(prompts):
        raise ValueError(f"Expected one prompt per picture but got {len(images)} pictures and {len(prompts)} prompts.")
    pictures = images.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    scores = [share_of_facts(p, parse_prompt(text)) for p, text in zip(pictures, prompts, strict=True)]
    return torch.tensor(scores, dtype=torch.float32), {}


def _smooth(picture: np.ndarray) -> np.ndarray:
    """Enlarges, then applies a median filter. At the original size the filter would cut the corners of small shapes."""
    scaled = Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
    scaled = scaled.resize((_READING_SIZE, _READING_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(scaled.filter(ImageFilter.MedianFilter(3)), dtype=np.float32) / 255


def _nearest_hue(picture: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(picture, -1, 0)
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(
        picture.argmax(-1) == 0,
        (green - blue) / safe % 6,
        np.where(picture.argmax(-1) == 1, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return np.rint(hue).astype(int) % len(_HUES)


def _best_shape(ys: np.ndarray, xs: np.ndarray, size: int) -> str | None:
    mask = np.zeros((size, size), bool)
    mask[ys, xs] = True
    axis = np.arange(size)
    dx, dy = axis[None, :] - xs.mean(), axis[:, None] - ys.mean()
    radius = np.sqrt(len(ys) / np.pi)
    overlaps = {}
    for shape in SHAPES:
        template = shape_distance(shape, dx, dy, radius) < 0
        overlaps[shape] = (mask & template).sum() / (mask | template).sum()
    best = max(overlaps, key=overlaps.get)
    return best if overlaps[best] >= _LEAST_OVERLAP else None
