"""A captioner that never errs on the tiny world: it reads the pixels as the oracle does, and answers in words.

What the check reaches with it is what questions, captions and their comparison cost by themselves. No model is in it,
so it says nothing about models.
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
    """In the place of an `attention_refine.caption_check.captioner.Captioner`."""

    batch_size = 64

    def yes_probability(self, images: Sequence[Image.Image], questions: Sequence[str]) -> torch.Tensor:
        """0.99 for a question whose answer is yes, 0.01 for any other."""
        answers = [answer(_read(image), question) for image, question in zip(images, questions, strict=True)]
        return torch.tensor([_SURE if yes else 1 - _SURE for yes in answers])

    def captions(self, images: Sequence[Image.Image], instruction: str) -> list[str]:
        """Everything that is there, and how two things stand."""
        return [caption(_read(image)) for image in images]


def perfect_check(exactly_one: bool = False) -> CaptionCheck:
    """A `CaptionCheck` with the perfect captioner."""
    check = CaptionCheck.__new__(CaptionCheck)  # its constructor takes a model, and there is none
    check.captioner, check.contrastive = PerfectCaptioner(), None
    check.question, check.instruction, check.exactly_one = QUESTION, INSTRUCTION, exactly_one
    return check


def caption_yes(source: str, device: str | None = None) -> Callable:
    """As `attention_refine.caption_check.rewards.caption_yes`; the source is not looked at."""
    return lambda images, prompts, metadata: (perfect_check().prompt_yes(images, prompts), {})


def caption_coverage(source: str, device: str | None = None) -> Callable:
    """As `attention_refine.caption_check.rewards.caption_coverage`; the source is not looked at."""
    return lambda images, prompts, metadata: (perfect_check().caption_coverage(images, prompts), {})


def answer(objects: Sequence[SceneObject], question: str) -> bool:
    """Whether the answer to a question of `attention_refine.caption_check.questions` is yes.

    Raises:
        ValueError: another question.
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
    """A prompt of the grammar for one or two objects; a list for more.

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
