"""Differentiable random views of pictures for the reward: patterns that fool it must survive a crop and noise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from rl.models.clamping import clamp_straight_through


def random_views(images: torch.Tensor, strength: float, seeds: Sequence[int]) -> torch.Tensor:
    """Crop each picture to a random window, resize it to full size, and add noise.

    The window's side is 1 - u of the picture's, with u uniform in [0, strength], at a random place. The noise has
    standard deviation `strength`. The result is clamped to [0,1] with a straight-through gradient.

    Args:
        images: (N,3,H,W) in [0,1].
        strength: 0 (no change) to 0.5.
        seeds: N; a view depends only on its picture and seed.

    Returns:
        (N,3,H,W) in [0,1].

    Example:
        >>> random_views(torch.rand(2, 3, 64, 64), 0.1, [0, 1]).shape
        torch.Size([2, 3, 64, 64])
    """
    if strength == 0:
        return images
    height, width = images.shape[2:]
    views = []
    for image, seed in zip(images, seeds, strict=True):
        random = np.random.default_rng([seed, 1])
        share = 1 - random.uniform(0, strength)
        rows, columns = max(1, round(share * height)), max(1, round(share * width))
        top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
        window = image[None, :, top : top + rows, left : left + columns]
        view = interpolate(window, (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
        noise = torch.from_numpy(random.standard_normal(view.shape, dtype=np.float32)).to(view.device)
        views.append(view + strength * noise)
    return clamp_straight_through(torch.stack(views))
