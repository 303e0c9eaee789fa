"""The tiny world's CLIP cosine as a differentiable reward, for an ensemble with HyperAlign."""

import functools

import torch

from reward import HyperAlignReward
from tinyworld import weights_path

# This linear map gives the cosine about the same mean and std as the reward, on the base model's pictures.
SCALE, SHIFT = 1.5, -0.05


@functools.cache
def _model() -> HyperAlignReward:
    return HyperAlignReward.from_backbone(f"local-dir:{weights_path('open-clip')}")


def cosine_reward(images: torch.Tensor, prompts: tuple[str, ...], metadata: tuple) -> tuple[torch.Tensor, dict]:
    """Score pictures (B,3,H,W) in [0,1]; returns ((B,), {}). Differentiable."""
    return SCALE * _model()(images, list(prompts)) + SHIFT, {}
