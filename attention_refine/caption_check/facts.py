"""The facts of a prompt, and which of them a caption covers that was written without knowing the prompt."""

from dataclasses import dataclass, replace
from typing import Literal

from reward.language.parts import PromptReading, Relation, Thing
from reward.language.reading import read_prompt

Kind = Literal["thing", "attribute", "number", "relation", "text"]


@dataclass(frozen=True)
class Fact:
    """One checkable statement of a prompt.

    Attributes:
        kind: ``"thing"``, ``"attribute"``, ``"number"``, ``"relation"`` or ``"text"``.
        text: the statement as a phrase: "a ring", "a red ring", "exactly two red rings".
        depends_on: places, among the prompt's facts, of those without which this one cannot hold.
        thing: what it is about, with the attributes that it states; None for a text that nothing bears.
        relation, object: of a relation, its words and the second thing.
        is_last: the most specific fact about a single thing; another number in the caption contradicts it.
        holds: what the prompt says of the statement; False for "a pizza with cheese" of "a pizza without cheese".
    """

    kind: Kind
    text: str
    depends_on: tuple[int, ...]
    thing: Thing | None
    relation: str = ""
    object: Thing | None = None
    is_last: bool = False
    holds: bool = True


def prompt_facts(prompt: str) -> tuple[Fact, ...]:
    """The facts of a prompt, each after those that it depends on; none where it names nothing.

    A number is a fact where several are said; "a" and "one" ask for at least one. How the picture is made is none.

    Raises:
        ImportError: the prompt needs spaCy's English model and there is none; see `read_prompt`.

    Example:
        >>> [fact.text for fact in prompt_facts("two red rings")]
        ['a ring', 'a red ring', 'exactly two red rings']
        >>> prompt_facts("a ring left of a square")[-1].depends_on
        (0, 1)
    """
    reading = read_prompt(prompt)
    facts: list[Fact] = []
    places: dict[tuple[str, str, bool], int] = {}  # what "a red ring left of a blue ring" says twice is one fact

    def add(fact: Fact) -> int:
        place = places.setdefault((fact.kind, fact.text, fact.holds), len(facts))
        if place == len(facts):
            facts.append(fact)
        return place

    last: list[tuple[int, ...]] = []
    for place, thing in enumerate(reading.things):
        if thing.absent:
            last.append(())
            if not any(place in (relation.subject, relation.object) for relation in reading.relations):
                add(replace(_about("thing", thing, ()), holds=False))
            continue
        single = thing.number == 1
        attributes = list(dict.fromkeys([*thing.before, *thing.after]))
        own: list[int] = []
        if not thing.is_place:  # a picture always has a background
            own.append(add(_about("thing", thing.only(), (), single and not attributes)))
        for number, attribute in enumerate(attributes, start=1):
            is_last = single and number == len(attributes)
            own.append(add(_about("attribute", thing.only(attribute), tuple(own[:1]), is_last)))
        for attribute in thing.denied:
            side = {"before": (attribute,)} if " " not in attribute else {"after": (attribute,)}
            denied = replace(thing.only(), **side)
            add(replace(_about("attribute", denied, tuple(own[:1])), holds=False))
        if thing.number is not None and not single:
            own.append(add(Fact("number", f"exactly {thing.phrase(number=True)}", tuple(own), thing)))
        last.append(tuple(own[-1:]))
    for relation in reading.relations:
        add(_related(reading, relation, last))
    for text in reading.texts:
        bearer = None if text.bearer is None else reading.things[text.bearer].only()
        on = "the text" if bearer is None else f"{bearer.phrase()} with the text"
        add(Fact("text", f"{on} “{text.words}”", last[text.bearer] if bearer else (), bearer))
    return tuple(facts)


def covered(facts: tuple[Fact, ...], caption: str) -> tuple[bool, ...]:
    """For each fact, whether a caption agrees; what depends on an uncovered fact is not covered.

    Words are compared as they stand, up to number, spelling and the two ways to say a relation ("a above b", "b under
    a"): a caption's synonym ("puppy" for "dog") does not cover. "two rings" does not cover "a ring". A caption agrees
    with what the prompt denies by not saying it.

    Example:
        >>> covered(prompt_facts("a red ring above a square"), "a blue square under a red ring")
        (True, True, True, True)
        >>> covered(prompt_facts("two red rings"), "a red ring")
        (True, True, False)
    """
    said = _with_actions(read_prompt(caption))
    holds: list[bool] = []
    for fact in facts:
        agrees = _is_said(fact, said, caption) == fact.holds
        holds.append(all(holds[parent] for parent in fact.depends_on) and agrees)
    return tuple(holds)


def coverage(prompt: str, caption: str) -> float | None:
    """Share of a prompt's facts that a caption covers, 0 to 1; None for a prompt that names nothing.

    Example:
        >>> coverage("a red ring", "a blue ring")
        0.5
    """
    holds = covered(prompt_facts(prompt), caption)
    return sum(holds) / len(holds) if holds else None


def _related(reading: PromptReading, relation: Relation, last: list[tuple[int, ...]]) -> Fact:
    """A relation with what stands before its two nouns; what stands behind them is another fact."""
    one, other = (replace(reading.things[place], after=()) for place in (relation.subject, relation.object))
    text = f"{one.phrase(number=True)} {relation.words} {other.phrase(number=True)}"
    parents = tuple(dict.fromkeys((*last[relation.subject], *last[relation.object])))
    return Fact("relation", text, parents, one, relation.words, other, holds=not relation.denied)


def _with_actions(said: PromptReading) -> PromptReading:
    """A dog that runs through a field is a dog running."""
    things = list(said.things)
    for relation in said.relations:
        action = relation.words.split()[0]
        if action.endswith("ing"):
            subject = things[relation.subject]
            things[relation.subject] = replace(subject, after=(*subject.after, action))
    return replace(said, things=tuple(things))


def _about(kind: Kind, thing: Thing, depends_on: tuple[int, ...], is_last: bool = False) -> Fact:
    return Fact(kind, thing.phrase(), depends_on, thing, is_last=is_last)


def _is_said(fact: Fact, said: PromptReading, caption: str) -> bool:
    if fact.kind == "relation":
        return _relation_is_said(fact, said)
    if fact.kind == "text":
        words = fact.text[fact.text.index("“") + 1 : -1]
        return words.lower() in caption.lower()
    asked = replace(fact.thing, absent=False)
    shown = [thing for thing in said.things if asked.is_shown_by(thing)]
    numbers = [thing.number for thing in shown]
    if fact.kind == "number":
        return None not in numbers and sum(numbers) == fact.thing.number
    contradicted = fact.is_last and None not in numbers and sum(numbers) != 1
    return bool(shown) and not contradicted


def _relation_is_said(fact: Fact, said: PromptReading) -> bool:
    ends = (fact.thing, fact.object)
    asked = Relation(0, fact.relation, 1).meanings()
    found = {m for relation in said.relations if not relation.denied for m in relation.meanings()}
    return any(
        meaning == other_meaning
        and ends[one].is_shown_by(said.things[first])
        and ends[other].is_shown_by(said.things[second])
        for meaning, one, other in asked
        for other_meaning, first, second in found
    )
