"""A HyperAlignReward in the call shapes of the trainers that are around.

    TRL DDPOTrainer, ddpo-pytorch    fn(images, prompts, metadata) -> (rewards (B,), {})
    TRL AlignPropTrainer             the same, differentiable
    flow_grpo                        fn(images, prompts, metadata, only_strict=...) -> ({name: (B,) list}, {})
    TRL 1.x GRPOTrainer              fn(prompts, completions, completion_ids, **columns) -> list of B floats
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
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


def grpo_reward(reward: Scorer, image_column: str = "image", *, asynchronous: bool = False) -> Callable[..., Any]:
    """TRL 1.x's GRPOTrainer with a captioner: how well each completion, taken as the prompt, describes its picture.

    Args:
        reward: a `HyperAlignReward`.
        image_column: the dataset's column of pictures; a list of one picture in it is that picture.
        asynchronous: return a coroutine function, which TRL runs beside its other asynchronous rewards.

    Returns:
        fn(prompts, completions, completion_ids, **columns) -> list of B floats. Its errors: KeyError where the
        dataset has no such column; ValueError for several pictures in a row, or another number of pictures than
        completions.

    Example:
        >>> fn = grpo_reward(reward)
        >>> fn(prompts=["Describe the picture."], completions=["a red ring"], image=[torch.rand(3, 64, 64)])
        [0.32]
    """

    @torch.no_grad()
    def scores(images: list, texts: list[str]) -> list[float]:
        return reward(images, texts).tolist()

    return _grpo_function(scores, image_column, asynchronous, "hyperalign")


def caption_reward(
    check: Any, image_column: str = "image", *, measure: str = "prompt_yes", asynchronous: bool = False
) -> Callable[..., Any]:
    """TRL 1.x's GRPOTrainer with a captioner as judge: does it find each completion in its picture?

    Args:
        check: an `attention_refine.CaptionCheck`; made with `contrastive=ContrastiveAttentionConfig(...)` it looks
            with contrastive attention, with `contrastive=None` without. Its model should not be the one in training.
        image_column, asynchronous: see `grpo_reward`.
        measure: prompt_yes, P(yes) for the whole completion; questions_yes, the mean of P(yes) over its facts; or
            caption_coverage, the share of its facts in a caption that the judge writes itself. All in [0, 1].

    Returns:
        As `grpo_reward`.

    Raises:
        ValueError: an unknown measure.
    """
    measures = ("prompt_yes", "questions_yes", "caption_coverage")
    if measure not in measures:
        raise ValueError(f"Expected measure to be one of {measures} but got {measure!r}")

    @torch.no_grad()
    def scores(images: list, texts: list[str]) -> list[float]:
        return getattr(check, measure)(images, texts).tolist()

    return _grpo_function(scores, image_column, asynchronous, f"caption_{measure}")


def _grpo_function(
    scores: Callable[[list, list[str]], list[float]], column: str, asynchronous: bool, name: str
) -> Callable[..., Any]:
    def inputs(completions: Sequence[Any], columns: Mapping[str, Any]) -> tuple[list, list[str]]:
        if column not in columns:
            names = ", ".join(key for key, values in columns.items() if isinstance(values, list)) or "none"
            raise KeyError(f"Expected a column {column!r} in the dataset but got {names}; set image_column")
        images = [_one_picture(image, column) for image in columns[column]]
        if len(images) != len(completions):
            raise ValueError(f"Expected {len(completions)} pictures, one a completion, but got {len(images)}")
        return images, [_completion_text(completion) for completion in completions]

    def score(*, completions: Sequence[Any], **columns: Any) -> list[float]:
        return scores(*inputs(completions, columns))

    async def score_async(*, completions: Sequence[Any], **columns: Any) -> list[float]:
        return await asyncio.to_thread(scores, *inputs(completions, columns))

    function = score_async if asynchronous else score
    function.__name__ = name  # what TRL logs it under
    return function


def _one_picture(image: Any, column: str) -> Any:
    if not isinstance(image, (list, tuple)):
        return image
    if len(image) != 1:
        raise ValueError(f"Expected one picture a row in the column {column!r} but got {len(image)}")
    return image[0]


def _completion_text(completion: Any) -> str:
    """The text of a completion: a string, or a conversation whose contents are strings or parts with a text."""
    if isinstance(completion, str):
        return completion
    contents = [message["content"] for message in completion]
    parts = [part for content in contents for part in ([content] if isinstance(content, str) else content)]
    return "".join(part if isinstance(part, str) else part.get("text", "") for part in parts)
