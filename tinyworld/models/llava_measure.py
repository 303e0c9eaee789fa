"""Measures a captioner: the facts in its captions, and its answers to every kind of question.

It is used as a user would, through the processor and `generate`. An answer is right only if it matches exactly.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.transforms.functional import to_pil_image

from tinyworld.data import bare_scene
from tinyworld.models.llava_batches import sample_scenes
from tinyworld.oracle import facts_that_hold, prompt_facts
from tinyworld.questions import CAPTION_QUESTION, OPEN_KINDS, YES_NO_KINDS, Question, ask, caption
from tinyworld.scenes import Prompt, SceneObject, parse_prompt

_BATCH = 64


def conversation(question: str) -> list[dict]:
    """One picture and one question as input of the processor's chat template."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]


@torch.no_grad()
def answers(model, processor, pictures: torch.Tensor, questions: Sequence[str]) -> list[str]:
    """The model's answers to one question per picture, decoded greedily.

    Args:
        pictures: (B, 3, H, W) in [0, 1].
        questions: B questions.
    """
    texts = [processor.apply_chat_template(conversation(q), add_generation_prompt=True) for q in questions]
    images = [to_pil_image(picture) for picture in pictures]
    said = []
    for start in range(0, len(texts), _BATCH):
        part = slice(start, start + _BATCH)
        inputs = processor(images=images[part], text=texts[part], padding=True, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        said += processor.batch_decode(tokens[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    return said


def facts_told(text: str, truth: Prompt) -> dict[str, list[bool]]:
    """Whether a caption states each fact of `truth`, by kind of fact ("object", "count", "relation").

    A relation may be stated from either side. A caption outside the grammar states nothing.

    Example:
        >>> facts_told("a red ring left of a blue square", parse_prompt("a blue square right of a red ring"))
        {'object': [True, True], 'relation': [True]}
    """
    try:
        told = parse_prompt(text)
        holds = facts_that_hold(bare_scene(told), truth)
    except ValueError:
        told, holds = None, (False,) * len(prompt_facts(truth))
    found: dict[str, list[bool]] = {}
    for fact, held in zip(prompt_facts(truth), holds, strict=True):
        silent = fact.kind == "relation" and told is not None and told.relation is None
        found.setdefault(fact.kind, []).append(bool(held) and not silent)
    return found


def measure_captions(model, processor, pictures: torch.Tensor, objects: list[list[SceneObject]]) -> dict[str, list]:
    """Per kind of fact, whether each fact is stated; under "whole", whether each caption is exactly right.

    Scenes without a right caption are left out.
    """
    truths = [caption(items) for items in objects]
    kept = [index for index, truth in enumerate(truths) if truth not in (None, "nothing")]
    said = answers(model, processor, pictures[kept], [CAPTION_QUESTION] * len(kept))
    found: dict[str, list[bool]] = {"object": [], "count": [], "relation": [], "whole": []}
    for index, text in zip(kept, said, strict=True):
        for kind, held in facts_told(text, parse_prompt(truths[index])).items():
            found[kind] += held
        found["whole"].append(text == truths[index])
    return found


def draw_questions(
    kind: str, objects: list[list[SceneObject]], count: int, rng: np.random.Generator
) -> list[tuple[int, Question]]:
    """Draws `count` pairs (index of the picture, question), with as many "yes" as "no" answers.

    Fewer if the scenes do not allow as many.
    """
    drawn: list[tuple[int, Question]] = []
    wanted = {"yes": count // 2, "no": count - count // 2} if kind in YES_NO_KINDS else None
    for turn in range(40 * count):
        if len(drawn) == count:
            break
        index = turn % len(objects)
        question = ask(kind, objects[index], rng, seen_only=False)
        if question is None or (wanted and not wanted[question.answer]) or (index, question) in drawn:
            continue
        if wanted:
            wanted[question.answer] -= 1
        drawn.append((index, question))
    return drawn


def measure_answers(
    model, processor, pictures: torch.Tensor, objects: list[list[SceneObject]], count: int, seed: int
) -> dict[str, dict[str, list]]:
    """For each kind of question, whether each of `count` answers is right.

    Returns:
        per kind: "right"; "blind", the same questions about the picture of another scene, which shows what can be
        guessed from the question alone; "answers", the true answers.
    """
    measured = {}
    for kind in (*YES_NO_KINDS, *OPEN_KINDS):
        rng = np.random.default_rng((seed, len(measured)))
        drawn = draw_questions(kind, objects, count, rng)
        index = torch.tensor([picture for picture, _ in drawn])
        texts = [question.text for _, question in drawn]
        truth = [question.answer for _, question in drawn]
        said = answers(model, processor, pictures[index], texts)
        elsewhere = answers(model, processor, pictures[index.roll(len(index) // 2 + 1)], texts)
        measured[kind] = {
            "right": [a == b for a, b in zip(said, truth, strict=True)],
            "blind": [a == b for a, b in zip(elsewhere, truth, strict=True)],
            "answers": truth,
        }
    return measured


def measure_llava(model, processor, count: int, held_out: bool, seed: int) -> dict[str, dict[str, float]]:
    """Fact recall of captions and accuracy for each kind of question, on new scenes.

    Returns:
        rows "caption: ..." and "question: ..." with ``count``, ``right`` and, for questions, ``blind`` (both 0 to 1).
    """
    scenes = sample_scenes(np.random.default_rng((seed, 1)), count, held_out, free=0)
    told = measure_captions(model, processor, scenes.pictures, scenes.objects)
    facts = told["object"] + told["count"] + told["relation"]
    named = {"facts told": facts, **{f"{kind} told": hits for kind, hits in told.items() if kind != "whole"}}
    named["entirely right"] = told["whole"]
    rows = {f"caption: {k}": {"count": len(hits), "right": float(np.mean(hits))} for k, hits in named.items() if hits}
    asked = measure_answers(model, processor, scenes.pictures, scenes.objects, count, seed)
    for kind, found in asked.items():
        if found["right"]:
            shares = {key: float(np.mean(found[key])) for key in ("right", "blind")}
            rows[f"question: {kind}"] = {"count": len(found["right"])} | shares
    return rows
