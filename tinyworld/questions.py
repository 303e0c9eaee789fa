"""Questions about a scene and their answers, to train and to measure a captioner.

Yes/no questions are balanced: the answer is "yes" for half of them. Where possible, a false question differs from a
true one in one thing. "Is there a red ring?" asks for at least one; "Does the picture show a red ring?" asks for
exactly one.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinyworld.data import altered
from tinyworld.oracle import facts_that_hold, relation_between
from tinyworld.scenes import COLOURS, KINDS, RELATIONS, SHAPES, Kind, Prompt, SceneObject

CAPTION_QUESTION = "Describe the picture."
WHOLE_QUESTION = "Does the picture show {prompt}?"
NUMBERS = ("zero", "one", "two", "three")
YES_NO_KINDS = ("whole", "thing", "count", "relation")
OPEN_KINDS = ("attribute", "number", "neighbour")
_CLEAR = 0.85  # a relation is clear if the smaller axis distance is at most this share of the larger one


@dataclass(frozen=True)
class Question:
    """One question, its answer, and which kind it is: "caption", one of YES_NO_KINDS or one of OPEN_KINDS."""

    kind: str
    text: str
    answer: str


def caption(objects: list[SceneObject]) -> str | None:
    """The right caption: a prompt of the grammar, with the relation if there are two kinds of objects.

    The object whose kind comes first in `KINDS` is named first, so every scene has only one right caption.

    Returns:
        the caption; "nothing" for an empty picture; None for a scene that the grammar cannot describe.

    Example:
        >>> blue = SceneObject(Kind("blue", "ring"), x=0.8, y=0.5, radius=0.13)
        >>> caption([blue, SceneObject(Kind("red", "ring"), x=0.2, y=0.5, radius=0.13)])
        'a red ring left of a blue ring'
    """
    if not objects:
        return "nothing"
    if len(objects) == 1:
        return Prompt(objects[0].kind).text
    if len(objects) > 2:
        return None
    one, two = sorted(objects, key=lambda item: KINDS.index(item.kind))
    if one.kind == two.kind:
        return Prompt(one.kind, count=2).text
    return Prompt(one.kind, second=two.kind, relation=relation_between(one, two)).text if clear(one, two) else None


def clear(one: SceneObject, two: SceneObject) -> bool:
    """Whether the relation of two objects is clear: one axis distance is clearly larger than the other."""
    dx, dy = abs(one.x - two.x), abs(one.y - two.y)
    return min(dx, dy) <= _CLEAR * max(dx, dy)


def ask(kind: str, objects: list[SceneObject], rng: np.random.Generator, seen_only: bool = True) -> Question | None:
    """Draws a random question of a kind.

    Args:
        kind: "caption", or one of YES_NO_KINDS and OPEN_KINDS.
        seen_only: never name a held-out combination, not even in a false question.

    Returns:
        the question; None if the one drawn does not fit the scene.
    """
    if kind == "caption":
        text = caption(objects)
        return text and Question("caption", CAPTION_QUESTION, text)
    return _ASKERS[kind](objects, rng, seen_only)


def ask_all(plan: list[str], objects: list[SceneObject], rng: np.random.Generator) -> list[Question]:
    """One question for each kind of the plan. A kind is left out if four draws give no question that fits the scene."""
    asked = []
    for kind in plan:
        found = next(filter(None, (ask(kind, objects, rng) for _ in range(4))), None)
        if found and found not in asked:
            asked.append(found)
    return asked


def _whole(objects: list[SceneObject], rng: np.random.Generator, seen_only: bool) -> Question | None:
    prompt = _true_prompt(objects, rng)
    if prompt is None or (seen_only and prompt.held_out):
        return None
    if rng.random() < 0.5:
        return Question("whole", WHOLE_QUESTION.format(prompt=prompt.text), "yes")
    other = _false_prompt(objects, prompt, rng, seen_only)
    return other and Question("whole", WHOLE_QUESTION.format(prompt=other.text), "no")


def _thing(objects: list[SceneObject], rng: np.random.Generator, seen_only: bool) -> Question | None:
    place = " in the picture" if rng.random() < 0.6 else ""
    true = rng.random() < 0.5
    if true and not objects:
        return None
    for _ in range(20):
        if objects and (true or rng.random() < 0.7):
            kind = objects[rng.integers(len(objects))].kind
            kind = kind if true else _changed(kind, rng)
        else:
            kind = KINDS[rng.integers(len(KINDS))]
        noun, matches = _noun(kind, rng)
        if any(map(matches, objects)) == true:
            return Question("thing", f"Is there a {noun}{place}?", _yes_no(true))
    return None


def _count(objects: list[SceneObject], rng: np.random.Generator, seen_only: bool) -> Question | None:
    true, number = rng.random() < 0.5, int(rng.integers(1, 3))
    if not objects:
        return None
    nouns = [_noun(item.kind, rng) for item in objects for _ in range(2)]
    if rng.random() < 0.15:
        nouns.append(("object", lambda item: True))
    if not true and rng.random() < 0.2:
        nouns = [_noun(KINDS[rng.integers(len(KINDS))], rng)]
    fitting = [noun for noun, matches in nouns if (sum(map(matches, objects)) == number) == true]
    if not fitting:
        return None
    noun = fitting[rng.integers(len(fitting))]
    exactly = "exactly " if number == 1 or rng.random() < 0.7 else ""
    start = f"Is there {exactly}one {noun}" if number == 1 else f"Are there {exactly}two {noun}s"
    return Question("count", f"{start}{' in the picture' if rng.random() < 0.6 else ''}?", _yes_no(true))


def _relation(objects: list[SceneObject], rng: np.random.Generator, seen_only: bool) -> Question | None:
    pair = _unique_pair(objects, rng)
    if pair is None:
        return None
    one, two = pair
    relation = relation_between(one, two)
    true = rng.random() < 0.5
    wrong = [other for other in RELATIONS if other != relation]
    told = relation if true else wrong[rng.integers(3)]
    prompt = Prompt(one.kind, second=two.kind, relation=told)
    if seen_only and prompt.held_out:
        return None
    form = rng.random()
    if form < 0.5:
        if not true and rng.random() < 0.3:
            prompt = _false_prompt(objects, Prompt(one.kind, second=two.kind, relation=relation), rng, seen_only)
            if prompt is None or prompt.relation is None:
                return None
        return Question("relation", f"Is there {prompt.text} in the picture?", _yes_no(true))
    if form < 0.85:
        return Question("relation", f"Is the {one.kind} {told} the {two.kind}?", _yes_no(true))
    for what in ("shape", "colour"):
        names = [getattr(item.kind, what) for item in (one, two)]
        if all(sum(getattr(item.kind, what) == name for item in objects) == 1 for name in names):
            first, second = (name if what == "shape" else f"{name} object" for name in names)
            return Question("relation", f"Is the {first} {told} the {second}?", _yes_no(true))
    return None


def _attribute(objects: list[SceneObject], rng: np.random.Generator, seen_only: bool) -> Question | None:
    if not objects:
        return None
    item = objects[rng.integers(len(objects))].kind
    if rng.random() < 0.5:
        if len({other.kind.colour for other in objects if other.kind.shape == item.shape}) > 1:
            return None
        number = sum(other.kind.shape == item.shape for other in objects)
        start = f"What colour is the {item.shape}" if number == 1 else f"What colour are the {item.shape}s"
        return Question("attribute", f"{start}?", item.colour)
    if sum(other.kind.colour == item.colour for other in objects) > 1:
        return None
    return Question("attribute", f"What shape is the {item.colour} object?", item.shape)


def _number(objects: list[SceneObject], rng: np.random.Generator, seen_only: bool) -> Question | None:
    if rng.random() < 0.2:
        noun, matches = "object", lambda item: True
    elif objects and rng.random() < 0.75:
        noun, matches = _noun(objects[rng.integers(len(objects))].kind, rng)
    else:
        noun, matches = _noun(KINDS[rng.integers(len(KINDS))], rng)
    place = " in the picture" if rng.random() < 0.4 else ""
    return Question("number", f"How many {noun}s are there{place}?", NUMBERS[sum(map(matches, objects))])


def _neighbour(objects: list[SceneObject], rng: np.random.Generator, seen_only: bool) -> Question | None:
    """Asks what is beside an object. Only scenes with two objects are used, so there is only one answer."""
    if len(objects) != 2 or objects[0].kind == objects[1].kind or not clear(*objects):
        return None
    one, two = objects if rng.random() < 0.5 else objects[::-1]
    return Question("neighbour", f"What is {relation_between(one, two)} the {two.kind}?", f"a {one.kind}")


_ASKERS: dict[str, Callable] = {
    "whole": _whole,
    "thing": _thing,
    "count": _count,
    "relation": _relation,
    "attribute": _attribute,
    "number": _number,
    "neighbour": _neighbour,
}


def _true_prompt(objects: list[SceneObject], rng: np.random.Generator) -> Prompt | None:
    """A prompt of the grammar whose facts all hold."""
    pair = _unique_pair(objects, rng)
    if pair and rng.random() < 0.9:
        relation = relation_between(*pair) if rng.random() < 0.75 else None
        return Prompt(pair[0].kind, second=pair[1].kind, relation=relation)
    counts = Counter(item.kind for item in objects)
    fitting = [kind for kind in counts if counts[kind] <= 2]
    if not fitting:
        return None
    kind = fitting[rng.integers(len(fitting))]
    return Prompt(kind, count=counts[kind])


def _false_prompt(objects: list, prompt: Prompt, rng: np.random.Generator, seen_only: bool) -> Prompt | None:
    """A prompt that differs from the true `prompt` in one thing and does not hold. A third change the relation."""
    for _ in range(4):
        if prompt.relation and rng.random() < 0.25:
            other = Prompt(prompt.first, second=prompt.second, relation=RELATIONS[rng.integers(4)])
        else:
            other = altered(prompt, rng, seen_only)
        if not all(facts_that_hold(objects, other)):
            return other
    return None


def _unique_pair(objects: list[SceneObject], rng: np.random.Generator) -> tuple[SceneObject, SceneObject] | None:
    """Two objects in random order, each the only one of its kind, whose relation is clear. None if there are none."""
    counts = Counter(item.kind for item in objects)
    single = [item for item in objects if counts[item.kind] == 1]
    pairs = [pair for pair in itertools.permutations(single, 2) if clear(*pair)]
    return pairs[rng.integers(len(pairs))] if pairs else None


def _noun(kind: Kind, rng: np.random.Generator) -> tuple[str, Callable[[SceneObject], bool]]:
    """A noun that names a kind, its shape or its colour, and a function that says which objects it names."""
    draw = rng.random()
    if draw < 0.6:
        return str(kind), lambda item: item.kind == kind
    if draw < 0.85:
        return kind.shape, lambda item: item.kind.shape == kind.shape
    return f"{kind.colour} object", lambda item: item.kind.colour == kind.colour


def _changed(kind: Kind, rng: np.random.Generator) -> Kind:
    if rng.random() < 0.5:
        return Kind(tuple(COLOURS)[rng.integers(len(COLOURS))], kind.shape)
    return Kind(kind.colour, SHAPES[rng.integers(len(SHAPES))])


def _yes_no(true: bool) -> str:
    return "yes" if true else "no"
