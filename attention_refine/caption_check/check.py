"""Does a picture show what its prompt says? A second opinion on a rising reward, from a captioner's answers and words.

For every picture: (a) P(yes) for the whole prompt and for each of its facts; (b) a caption written without the prompt,
and the share of the prompt's facts that it covers; (c) the same for another picture's prompt, as control. A captioner
that says yes to everything, or to whatever is likely, shows in (c).
"""

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from attention_refine.caption_check.captioner import Captioner
from attention_refine.caption_check.facts import Fact, coverage, covered, prompt_facts
from attention_refine.caption_check.questions import Question, Questions, ask, make_questions, share_of_yes
from attention_refine.vlm.loading import load_model
from reward.files.quoting import quoted

QUESTION = "Does the picture show {}?"
INSTRUCTION = "Describe the picture."


@dataclass(frozen=True)
class Answer:
    """A question about a picture and P(yes), 0 to 1; P(no) where no is the right answer, as of "without cheese"."""

    question: str
    kind: str
    yes: float
    depends_on: tuple[int, ...] = ()


@dataclass(frozen=True)
class CaptionFact:
    """A fact of a prompt, "not …" where the prompt denies it, and whether the caption covers it."""

    text: str
    kind: str
    is_covered: bool


@dataclass(frozen=True)
class PromptCheck:
    """What the captioner makes of one prompt for one picture.

    Attributes:
        prompt: the prompt.
        prompt_yes: P(yes) for the whole prompt, 0 to 1.
        questions_yes: mean of P(yes) over the questions, as `share_of_yes` counts it.
        caption_coverage: share of the prompt's facts that the caption covers; None for a prompt that names nothing.
        answers: one a question.
        facts: one a fact.
    """

    prompt: str
    prompt_yes: float
    questions_yes: float
    caption_coverage: float | None
    answers: tuple[Answer, ...]
    facts: tuple[CaptionFact, ...]


@dataclass(frozen=True)
class PictureCheck:
    """One picture: its caption, the check of its own prompt and, as control, of another picture's."""

    caption: str
    own: PromptCheck
    control: PromptCheck | None

    def record(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


class CaptionCheck:
    """Checks pictures against prompts with a captioner.

    Args:
        model: any `AutoModelForImageTextToText`.
        processor: its `AutoProcessor`.
        batch_size: pictures at a time.
        max_new_tokens: longest caption.
        question: how a whole prompt is asked for, with {} in its place.
        instruction: what the captioner is told to do when it writes the caption.
        exactly_one: ask "exactly one ring?" for "a ring", see `make_questions`.
        contrastive: a `ContrastiveAttentionConfig` to answer and write with; None: the bare model.

    Example:
        >>> check = CaptionCheck.from_pretrained("llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
        >>> check.check([Image.open("ring.png")], ["a red ring"])[0].own.prompt_yes  # doctest: +SKIP
        0.93
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        batch_size: int = 16,
        max_new_tokens: int = 64,
        question: str = QUESTION,
        instruction: str = INSTRUCTION,
        exactly_one: bool = False,
        contrastive: Any = None,
    ) -> None:
        ask(question, "")  # refuses a wording without a place before any work is done
        around = None
        if contrastive is not None:
            from attention_refine.contrastive.wrapper import ContrastiveAttention

            around = functools.partial(ContrastiveAttention, config=contrastive)
        self.captioner = Captioner(
            model, processor, batch_size=batch_size, max_new_tokens=max_new_tokens, around=around
        )
        self.question, self.instruction, self.contrastive = question, instruction, contrastive
        self.exactly_one = exactly_one

    @classmethod
    def from_pretrained(cls, source: str, device: Any = None, dtype: Any = None, **options: Any) -> "CaptionCheck":
        """A check with the captioner of a folder or hub id; see `load_model`, and the class for options."""
        return cls(*load_model(source, device, dtype), **options)

    def check(
        self,
        images: Any,
        prompts: Sequence[str],
        questions: Mapping[str, Questions] | None = None,
        controls: Sequence[str | None] | None = None,
    ) -> list[PictureCheck]:
        """Check pictures against their prompts.

        Args:
            images: B pictures in any form that `HyperAlignReward` takes.
            prompts: B prompts.
            questions: by prompt, of `read_questions`; made by rule for prompts that it does not have.
            controls: B prompts for the control, None for no control of a picture; left out: `other_prompts`.

        Returns:
            one check a picture.

        Raises:
            ValueError: B differs, an empty prompt, or pictures that cannot be read.
        """
        pictures, prompts = to_pictures(images), list(prompts)
        _check_prompts(len(pictures), prompts)
        others = other_prompts(prompts) if controls is None else list(controls)
        # a picture given several times, with several prompts, is captioned once and asked nothing twice
        firsts: dict[int, int] = {}
        places = [firsts.setdefault(id(picture), i) for i, picture in enumerate(pictures)]
        asked = [(i, prompt) for i, *pair in zip(places, prompts, others, strict=True) for prompt in pair if prompt]
        known = questions or {}
        found = {prompt: self._questions(prompt, known) for _, prompt in asked}
        wanted = dict.fromkeys(
            (i, text)
            for i, prompt in asked
            for text in (ask(self.question, prompt), *(question.text for question in found[prompt]))
        )
        values = self.captioner.yes_probability([pictures[i] for i, _ in wanted], [text for _, text in wanted]).tolist()
        yes = dict(zip(wanted, values, strict=True))
        written = self.captioner.captions([pictures[i] for i in firsts.values()], self.instruction)
        captions = dict(zip(firsts.values(), written, strict=True))

        def judge(i: int, prompt: str) -> PromptCheck:
            said = [yes[i, question.text] for question in found[prompt]]
            answers = tuple(
                Answer(q.text, q.kind, q.right(p), q.depends_on) for q, p in zip(found[prompt], said, strict=True)
            )
            facts = prompt_facts(prompt)
            holds = covered(facts, captions[i])
            return PromptCheck(
                prompt,
                yes[i, ask(self.question, prompt)],
                share_of_yes(found[prompt], said),
                sum(holds) / len(holds) if holds else None,
                answers,
                tuple(CaptionFact(_statement(f), f.kind, hold) for f, hold in zip(facts, holds, strict=True)),
            )

        return [
            PictureCheck(captions[i], judge(i, prompt), judge(i, other) if other else None)
            for i, prompt, other in zip(places, prompts, others, strict=True)
        ]

    def prompt_yes(self, images: Any, prompts: Sequence[str]) -> torch.Tensor:
        """(B,) P(yes) for the whole prompts alone."""
        pictures = to_pictures(images)
        _check_prompts(len(pictures), prompts)
        return self.captioner.yes_probability(pictures, [ask(self.question, prompt) for prompt in prompts])

    def questions_yes(self, images: Any, prompts: Sequence[str]) -> torch.Tensor:
        """(B,) mean of P(yes) over each prompt's questions alone."""
        pictures = to_pictures(images)
        _check_prompts(len(pictures), prompts)
        made = [self._questions(prompt, {}) for prompt in prompts]
        rows = [(picture, q.text) for picture, questions in zip(pictures, made, strict=True) for q in questions]
        yes = iter(self.captioner.yes_probability([row[0] for row in rows], [row[1] for row in rows]).tolist())
        return torch.tensor([share_of_yes(questions, [next(yes) for _ in questions]) for questions in made])

    def caption_coverage(self, images: Any, prompts: Sequence[str]) -> torch.Tensor:
        """(B,) share of each prompt's facts that the prompt-blind caption covers; 0 for a prompt that names nothing."""
        pictures = to_pictures(images)
        _check_prompts(len(pictures), prompts)
        captions = self.captioner.captions(pictures, self.instruction)
        return torch.tensor([coverage(p, caption) or 0.0 for p, caption in zip(prompts, captions, strict=True)])

    def _questions(self, prompt: str, known: Mapping[str, Questions]) -> Questions:
        # a prompt that names nothing is asked for as a whole
        made = known.get(prompt) or make_questions(prompt, self.exactly_one)
        return made or (Question(ask(self.question, prompt)),)


def _statement(fact: Fact) -> str:
    return fact.text if fact.holds else f"not {fact.text}"


def other_prompts(prompts: Sequence[str], seed: int = 0) -> list[str | None]:
    """For each picture another one's prompt, drawn among those that say something else; None where none does.

    Example:
        >>> other_prompts(["a ring", "a square", "a ring"])
        ['a square', 'a ring', 'a square']
    """
    rng = random.Random(seed)
    distinct = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    names = list(distinct)
    others: list[str | None] = []
    for prompt in prompts:
        drawn = rng.randrange(len(names) - 1) if len(names) > 1 else None
        others.append(None if drawn is None else names[drawn + (drawn >= distinct[prompt])])
    return others


def to_pictures(images: Any) -> list[Image.Image]:
    """Any image input of `reward` as RGB PIL pictures of the same size.

    Raises:
        TypeError, ValueError: see `reward.images.preprocess.to_tensors`.
    """
    from reward.images.preprocess import to_tensors

    if isinstance(images, list) and all(isinstance(i, Image.Image) and i.mode == "RGB" for i in images):
        return images
    pictures = []
    for image in to_tensors(images):
        pixels = image.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu()
        pictures.append(Image.fromarray(np.ascontiguousarray(pixels.numpy())))
    return pictures


def _check_prompts(count: int, prompts: Sequence[str]) -> None:
    if len(prompts) != count:
        raise ValueError(f"Expected one prompt a picture, got {len(prompts)} prompts for {count} pictures.")
    for place, prompt in enumerate(prompts):
        if not prompt.strip():
            raise ValueError(f"Expected prompts that say something, got {quoted(prompt)} for picture {place}.")
