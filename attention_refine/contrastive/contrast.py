"""From attention rows to the image tokens to be scaled: pure functions on tensors, no state.

Shapes: B samples, S prompt tokens. `image_index` (B, S) is the number of the image a token belongs to within its
sample, −1 for tokens that are no image token.
"""

import torch
from torch import Tensor


def image_attention(row: Tensor, is_image: Tensor) -> Tensor:
    """A: the attention row over the image tokens alone, normalised over them.

    Args:
        row: attention of one query over the prompt, (…, S), zero or positive.
        is_image: the image tokens, bool (…, S).

    Returns:
        (…, S), float32; sums to 1 over the image tokens, 0 elsewhere; all 0 where there is no image token.
    """
    row = row.float() * is_image
    total = row.sum(-1, keepdim=True)
    return row / torch.where(total > 0, total, 1.0)


def hellinger(p: Tensor, q: Tensor) -> Tensor:
    """H = (1/√2) · √Σ(√P − √Q)² of two distributions (…, S): (…), in [0, 1]."""
    return ((p.sqrt() - q.sqrt()).square().sum(-1) / 2).sqrt()


def quantile_mask(values: Tensor, image_index: Tensor, rho: float) -> Tensor:
    """The tokens whose value is below the `rho`-quantile of its own image.

    The quantile is numpy's "higher": the value at rank ⌈rho·(n−1)⌉ of n, so no rounding of an interpolation decides;
    without ties that many tokens lie below it.

    Args:
        values: (B, S).
        image_index: (B, S) integers; −1 = no image token, never chosen.
        rho: in [0, 1).

    Returns:
        bool (B, S).
    """
    chosen = torch.zeros_like(image_index, dtype=torch.bool)
    for image in range(int(image_index.max()) + 1 if image_index.numel() else 0):
        inside = image_index == image
        ranked = values.masked_fill(~inside, torch.inf).sort(-1).values
        rank = torch.ceil(rho * (inside.sum(-1, keepdim=True) - 1).clamp(min=0).double() - 1e-9).long()
        chosen |= inside & (values < ranked.gather(-1, rank))
    return chosen
