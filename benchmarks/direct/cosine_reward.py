"""The tiny world's CLIP cosine as a second, differentiable reward: what an ensemble adds to HyperAlign."""

import functools

import torch

from reward import HyperAlignReward
from tinyworld import weights_path

# On the base model's pictures the cosine has about the reward's mean and spread after this line.
SCALE, SHIFT = 1.5, -0.05


@functools.cache
def _model() -> HyperAlignReward:
    return HyperAlignReward.from_backbone(f"local-dir:{weights_path('open-clip')}")


def cosine_reward(images: torch.Tensor, prompts: tuple[str, ...], metadata: tuple) -> tuple[torch.Tensor, dict]:
    """(B,3,H,W) in [0,1] -> ((B,), {}); differentiable."""
    return SCALE * _model()(images, list(prompts)) + SHIFT, {}
