"""A captioner without errors on the tiny world: it reads the pixels as the oracle does and answers in words.

With it, all remaining errors of the caption check come from the questions, the captions and their comparison, and none
from a model.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from attention_refine import CaptionCheck
from attention_refine.caption_check.check import INSTRUCTION, QUESTION
from tinyworld.oracle import facts_that_hold, read_scene, relation_between
from tinyworld.scenes import Prompt, SceneObject, parse_prompt

_SURE = 0.99


class PerfectCaptioner:
    """Replaces an `attention_refine.caption_check.captioner.Captioner`."""

    batch_size = 64

    def yes_probability(self, images: Sequence[Image.Image], questions: Sequence[str]) -> torch.Tensor:
        """Probabilities of "yes": 0.99 if the answer is yes, otherwise 0.01."""
        answers = [answer(_read(image), question) for image, question in zip(images, questions, strict=True)]
        return torch.tensor([_SURE if yes else 1 - _SURE for yes in answers])

    def captions(self, images: Sequence[Image.Image], instruction: str) -> list[str]:
        """Captions with all objects, and with the relation if there are two."""
        return [caption(_read(image)) for image in images]


def perfect_check(exactly_one: bool = False) -> CaptionCheck:
    """A `CaptionCheck` with the perfect captioner."""
    check = CaptionCheck.__new__(CaptionCheck)  # without its constructor, which needs a model
    check.captioner, check.contrastive = PerfectCaptioner(), None
    check.question, check.instruction, check.exactly_one = QUESTION, INSTRUCTION, exactly_one
    return check


def caption_yes(source: str, device: str | None = None) -> Callable:
    """Like `attention_refine.caption_check.rewards.caption_yes`; `source` is ignored."""
    return lambda images, prompts, metadata: (perfect_check().prompt_yes(images, prompts), {})


def caption_coverage(source: str, device: str | None = None) -> Callable:
    """Like `attention_refine.caption_check.rewards.caption_coverage`; `source` is ignored."""
    return lambda images, prompts, metadata: (perfect_check().caption_coverage(images, prompts), {})


def answer(objects: Sequence[SceneObject], question: str) -> bool:
    """Whether the answer to a question of `attention_refine.caption_check.questions` is yes.

    Raises:
        ValueError: not such a question.
    """
    whole = re.fullmatch(re.escape(QUESTION).replace(re.escape("{}"), "(.+)"), question)
    fact = re.fullmatch(r"(?:Is|Are) there (exactly )?(.+) in the picture\?", question)
    if not whole and not fact:
        raise ValueError(f"Expected a question about the tiny world, got {question!r}.")
    text = whole[1] if whole else fact[2]
    one = fact and fact[1] and text.startswith("one ")
    if one and " " not in text[4:]:
        return sum(item.kind.shape == text[4:] for item in objects) == 1
    if fact and (shape := re.fullmatch(r"an? (\w+)", text)):
        return any(item.kind.shape == shape[1] for item in objects)
    prompt = parse_prompt(f"a {text[4:]}" if one else text)
    if fact and not one and prompt.second is None and prompt.count == 1:
        return any(item.kind == prompt.first for item in objects)
    return all(facts_that_hold(list(objects), prompt))


def caption(objects: Sequence[SceneObject]) -> str:
    """A prompt of the grammar for one or two objects; a list of objects if there are more.

    Example:
        >>> caption([])
        'nothing'
    """
    if len(objects) == 2:
        one, two = objects
        if one.kind == two.kind:
            return Prompt(one.kind, count=2).text
        return Prompt(one.kind, second=two.kind, relation=relation_between(one, two)).text
    return " and ".join(f"a {item.kind}" for item in objects) or "nothing"


def _read(image: Image.Image) -> list[SceneObject]:
    return read_scene(np.asarray(image, dtype=np.float32) / 255)
