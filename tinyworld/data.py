"""Random scenes for pretraining: prompts of the seen split, each with a picture that shows exactly what it says."""

import numpy as np
import torch
from torchvision.transforms.functional import gaussian_blur

from tinyworld.oracle import facts_that_hold
from tinyworld.scenes import (
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZE,
    Kind,
    Prompt,
    SceneObject,
    sample_picture,
    sample_prompt,
)


def sample_pairs(rng: np.random.Generator, count: int, held_out: bool = False) -> tuple[torch.Tensor, list[Prompt]]:
    """Draws random prompts of one split and a picture of each.

    Returns:
        (pictures (count, 3, 48, 48) float32 in [0, 1], the prompts).
    """
    prompts = [sample_prompt(rng, held_out) for _ in range(count)]
    return pictures_of(prompts, rng), prompts


def pictures_of(prompts: list[Prompt], rng: np.random.Generator) -> torch.Tensor:
    """A random picture for each prompt: (count, 3, 48, 48) float32 in [0, 1]."""
    pictures = np.stack([sample_picture(prompt, rng, SIZE) for prompt in prompts])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def altered(prompt: Prompt, rng: np.random.Generator, seen_only: bool = True) -> Prompt:
    """A prompt that differs from `prompt` in one thing.

    The change is one of: a colour, a shape, the number, the relation, the two objects swapped, their colours swapped.

    Args:
        seen_only: return only prompts of the seen split.
    """
    while True:
        other = _changed_once(prompt, rng)
        if other != prompt and other.first != other.second and not (seen_only and other.held_out):
            return other


def share_that_holds(shown: Prompt, asked: Prompt) -> float:
    """Share of the facts of `asked` that hold in a scene of `shown`, 0 to 1. No picture is drawn.

    `asked` must be `shown` or come from `altered`: those ask for a relation only where the scene has one.
    """
    return float(np.mean(facts_that_hold(bare_scene(shown), asked)))


def bare_scene(shown: Prompt) -> list[SceneObject]:
    """A scene in which only the prompt's facts hold. Without a relation, both objects are at the same place."""
    one = SceneObject(shown.first, 0.5, 0.5, 0.13)
    if shown.second is None:
        return [one] * shown.count
    x, y = {"left of": (0.9, 0.5), "right of": (0.1, 0.5), "above": (0.5, 0.9), "below": (0.5, 0.1)}.get(
        shown.relation, (0.5, 0.5)
    )
    return [one, SceneObject(shown.second, x, y, 0.13)]


def _changed_once(prompt: Prompt, rng: np.random.Generator) -> Prompt:
    first, second, count, relation = prompt.first, prompt.second, prompt.count, prompt.relation
    if second is None:
        if rng.random() < 0.3:
            return Prompt(first, count=3 - count)
        return Prompt(_other_kind(first, rng), count=count)
    change = rng.random()
    if change < 0.30:
        return Prompt(_other_kind(first, rng), second=second, relation=relation)
    if change < 0.60 or relation is None:
        return Prompt(first, second=_other_kind(second, rng), relation=relation)
    if change < 0.70:
        return Prompt(second, second=first, relation=relation)
    if change < 0.80 and first.colour != second.colour and first.shape != second.shape:
        return Prompt(
            Kind(second.colour, first.shape), second=Kind(first.colour, second.shape), relation=relation
        )
    return Prompt(first, second=second, relation=RELATIONS[rng.integers(4)])


def _other_kind(kind: Kind, rng: np.random.Generator) -> Kind:
    colours, shapes = tuple(COLOURS), SHAPES
    if rng.random() < 0.5:
        return Kind(colours[rng.integers(len(colours))], kind.shape)
    return Kind(kind.colour, shapes[rng.integers(len(shapes))])


def worn(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Slightly blurred and noisy copies, like an imperfect generator's. Each picture gets its own strength."""
    count = len(pictures)
    blurred = gaussian_blur(pictures, kernel_size=5, sigma=0.9)
    share = torch.from_numpy(rng.random((count, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(pictures.shape).astype(np.float32))
    strength = torch.from_numpy((0.05 * rng.random((count, 1, 1, 1))).astype(np.float32))
    return (torch.lerp(pictures, blurred, share) + strength * noise).clamp(0, 1)
