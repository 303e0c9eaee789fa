"""A long prompt's score from those of its portions: a mean in which the portions that fit the picture weigh more.

w_k = softmax(s_k / T), T = 0.2, score = sum w_k s_k. A portion that says nothing about the picture scores low
whatever is shown, and a plain mean sinks with each of them; the best portion alone would forgive every other. Chosen
by measurement among mean, norm-weighted and worst, of features and of scores (benchmarks/long_prompts).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from reward.model.head import HyperAlignOutput

TEMPERATURE = 0.2


def pairs_of_portions(owners: Sequence[int], images: int, one_for_all: bool) -> tuple[Tensor, Tensor]:
    """Which image meets which portion.

    Args:
        owners: of each portion, the prompt that it is of, ascending.
        images: how many there are.
        one_for_all: whether all images have the first prompt; otherwise image i has prompt i.

    Returns:
        (M,) indices of images, ascending, and (M,) indices of portions.
    """
    count = len(owners)
    if one_for_all:
        return torch.arange(images).repeat_interleave(count), torch.arange(count).repeat(images)
    return torch.tensor(owners), torch.arange(count)


def pool_portions(output: HyperAlignOutput, owners: Tensor, count: int) -> HyperAlignOutput:
    """What the model says of `count` pairs from what it says of their portions, each (M,); owners (M,)."""
    weights = _weights(output.score.unsqueeze(0), owners.to(output.score.device), count).squeeze(0)
    owners = owners.to(output.score.device)
    return HyperAlignOutput(
        *(torch.zeros(count, dtype=v.dtype, device=v.device).index_add(0, owners, weights.to(v.dtype) * v)
          for v in output)
    )  # fmt: skip


def pool_columns(scores: Tensor, owners: Sequence[int], count: int) -> Tensor:
    """Scores of N images with M portions (N, M) -> with `count` prompts (N, count)."""
    places = torch.tensor(owners, device=scores.device)
    weights = _weights(scores, places, count)
    return scores.new_zeros(len(scores), count).index_add(1, places, weights * scores)


def _weights(scores: Tensor, owners: Tensor, count: int) -> Tensor:
    """Softmax over the portions of each owner, (N, M); in float64 no owner's can vanish beside another's."""
    scaled = scores.double() / TEMPERATURE
    largest = scaled.new_full((len(scaled), count), -torch.inf)
    largest = largest.scatter_reduce(1, owners.expand_as(scaled), scaled.detach(), "amax")
    powers = (scaled - largest[:, owners]).exp()
    sums = powers.new_zeros(len(scaled), count).index_add(1, owners, powers)
    return (powers / sums[:, owners]).to(scores.dtype)
