"""A captioner's opinion as a reward: held-out metrics for a trainer's panel.

    eval_rewards: ["attention_refine.caption_check.rewards:caption_yes@CAPTIONER"]
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from attention_refine.caption_check.check import CaptionCheck


def caption_yes(source: str, device: Any = None) -> Callable[..., tuple[torch.Tensor, dict]]:
    """P(yes) for the whole prompt, in the RL reward contract; `source` is the captioner's folder or hub id."""
    return _reward(_shared_check(source, str(device or "")).prompt_yes)


def caption_questions(source: str, device: Any = None) -> Callable[..., tuple[torch.Tensor, dict]]:
    """Mean of P(yes) over the prompt's questions, in the RL reward contract; as `caption_yes`."""
    return _reward(_shared_check(source, str(device or "")).questions_yes)


def caption_coverage(source: str, device: Any = None) -> Callable[..., tuple[torch.Tensor, dict]]:
    """Share of the prompt's facts that a prompt-blind caption covers, in the RL reward contract; as `caption_yes`."""
    return _reward(_shared_check(source, str(device or "")).caption_coverage)


@functools.lru_cache(maxsize=1)
def _shared_check(source: str, device: str) -> CaptionCheck:
    """One model in memory, however many of its metrics are named."""
    return CaptionCheck.from_pretrained(source, device or None)


def _reward(measure: Callable[[Any, Sequence[str]], torch.Tensor]) -> Callable[..., tuple[torch.Tensor, dict]]:
    def reward(images: torch.Tensor, prompts: Sequence[str], metadata: Any = None) -> tuple[torch.Tensor, dict]:
        return measure(images, prompts), {}

    return reward
