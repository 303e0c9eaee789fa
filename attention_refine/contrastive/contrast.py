"""From attention rows to the image tokens that are scaled: pure functions on tensors.

Shapes: B samples, S prompt tokens. `image_index` (B, S) is the number of the token's image within its sample, or −1
if the token is not an image token.
"""

import torch
from torch import Tensor


def image_attention(row: Tensor, is_image: Tensor) -> Tensor:
    """A: the attention over the image tokens only, normalised to sum 1.

    Args:
        row: attention of one query over the prompt, (…, S), >= 0.
        is_image: mask of the image tokens, bool (…, S).

    Returns:
        (…, S), float32, 0 at other tokens; all 0 in a sample without image tokens.
    """
    row = row.float() * is_image
    total = row.sum(-1, keepdim=True)
    return row / torch.where(total > 0, total, 1.0)


def hellinger(p: Tensor, q: Tensor) -> Tensor:
    """Hellinger distance H = (1/√2) · √Σ(√P − √Q)² of two distributions (…, S); returns (…), in [0, 1]."""
    return ((p.sqrt() - q.sqrt()).square().sum(-1) / 2).sqrt()


def quantile_mask(values: Tensor, image_index: Tensor, rho: float) -> Tensor:
    """Mask of the tokens whose value is below the `rho`-quantile of their own image.

    The quantile is numpy's "higher": of n values, the one with rank ⌈rho·(n−1)⌉. It is not interpolated, so rounding
    cannot decide. Without ties, ⌈rho·(n−1)⌉ tokens are below it.

    Args:
        values: (B, S).
        image_index: (B, S) integers; tokens with −1 are never chosen.
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
