"""The control: the recipe's rewards, shuffled within the batch. Nothing can be learned from them."""

from functools import lru_cache

import torch

from reward import HyperAlignReward
from tinyworld import weights_path


@lru_cache
def _reward() -> HyperAlignReward:
    return HyperAlignReward.from_pretrained(weights_path("hyperalign"))


def shuffled_reward(images: torch.Tensor, prompts, metadata) -> tuple[torch.Tensor, dict]:
    """HyperAlign's rewards of the batch in a random order, which depends only on the pictures."""
    rewards = _reward()(images, list(prompts))
    generator = torch.Generator().manual_seed(int(images.double().sum().item() * 1e6) % 2**63)
    return rewards[torch.randperm(len(rewards), generator=generator)], {}
