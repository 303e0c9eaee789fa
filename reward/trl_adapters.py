"""A HyperAlignReward in the call shapes of the trainers that are around.

    TRL DDPOTrainer, ddpo-pytorch    fn(images, prompts, metadata) -> (rewards (B,), {})
    TRL AlignPropTrainer             the same, differentiable
    flow_grpo                        fn(images, prompts, metadata, only_strict=...) -> ({name: (B,) list}, {})
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# A `HyperAlignReward`, or anything that is called like one.
Scorer = Callable[[Any, Sequence[str]], Tensor]
RewardFunction = Callable[[Any, Sequence[str], Sequence[Any]], tuple[Tensor, dict]]


def ddpo_reward(reward: Scorer) -> RewardFunction:
    """TRL 0.23.1's DDPOTrainer and ddpo-pytorch: no graph; images float (B,3,H,W) in [0,1] or uint8 BHWC arrays.

    Example:
        >>> fn = ddpo_reward(reward)
        >>> rewards, info = fn(images, ("a red ring",) * len(images), ({},) * len(images))
    """

    @torch.no_grad()
    def score(images: Any, prompts: Sequence[str], metadata: Sequence[Any] = ()) -> tuple[Tensor, dict]:
        return reward(images, list(prompts)), {}

    return score


def alignprop_reward(reward: Scorer) -> RewardFunction:
    """TRL 0.23.1's AlignPropTrainer: rewards keep their graph into the images."""

    def score(images: Tensor, prompts: Sequence[str], metadata: Sequence[Any] = ()) -> tuple[Tensor, dict]:
        return reward(images, list(prompts)), {}

    return score


def flow_grpo_reward(reward: Scorer, name: str = "hyperalign") -> Callable[..., tuple[dict, dict]]:
    """flow_grpo's combined reward: one list a name, their average under "avg"; `only_strict` means nothing here."""

    @torch.no_grad()
    def score(
        images: Tensor | np.ndarray,
        prompts: Sequence[str],
        metadata: Sequence[Any] = (),
        ref_images: Any = None,
        only_strict: bool = True,
    ) -> tuple[dict[str, list[float]], dict]:
        scores = reward(images, list(prompts)).tolist()
        return {name: scores, "avg": list(scores)}, {}

    return score
