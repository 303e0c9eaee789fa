"""The facts of a prompt, and which of them a caption covers that was written without knowing the prompt."""

from dataclasses import dataclass, replace
from typing import Literal

from attention_refine.caption_check.descriptions import Description, Relation, Thing, read_description

Kind = Literal["thing", "attribute", "number", "relation"]


@dataclass(frozen=True)
class Fact:
    """One checkable statement of a prompt.

    Attributes:
        kind: ``"thing"``, ``"attribute"``, ``"number"`` or ``"relation"``.
        text: the statement as a phrase: "a ring", "a red ring", "exactly two red rings".
        depends_on: places, among the prompt's facts, of those without which this one cannot hold.
        thing: what it is about, with the attributes that it states.
        relation, object: of a relation, its words and the second thing.
        is_last: the most specific fact about a single thing; another number in the caption contradicts it.
    """

    kind: Kind
    text: str
    depends_on: tuple[int, ...]
    thing: Thing
    relation: str = ""
    object: Thing | None = None
    is_last: bool = False


def prompt_facts(prompt: str) -> tuple[Fact, ...]:
    """The facts of an English prompt, each after those that it depends on; none where it names nothing.

    A number is a fact where several are said; "a" and "one" ask for at least one.

    Example:
        >>> [fact.text for fact in prompt_facts("two red rings")]
        ['a ring', 'a red ring', 'exactly two red rings']
        >>> prompt_facts("a ring left of a square")[-1].depends_on
        (0, 1)
    """
    description = read_description(prompt)
    facts: list[Fact] = []
    places: dict[tuple[str, str], int] = {}  # what "a red ring left of a blue ring" says twice is one fact

    def add(fact: Fact) -> int:
        place = places.setdefault((fact.kind, fact.text), len(facts))
        if place == len(facts):
            facts.append(fact)
        return place

    last: list[int] = []
    for thing in description.things:
        single = thing.number == 1
        attributes = [*thing.before, *thing.after]
        own = [add(_about("thing", thing.only(), (), single and not attributes))]
        for number, attribute in enumerate(attributes, start=1):
            is_last = single and number == len(attributes)
            own.append(add(_about("attribute", thing.only(attribute), (own[0],), is_last)))
        if thing.number is not None and not single:
            own.append(add(Fact("number", f"exactly {thing.phrase(number=True)}", tuple(own), thing)))
        last.append(own[-1])
    for relation in description.relations:
        one, other = description.things[relation.subject], description.things[relation.object]
        text = f"{one.phrase(number=True)} {relation.words} {other.phrase(number=True)}"
        parents = tuple(dict.fromkeys((last[relation.subject], last[relation.object])))
        add(Fact("relation", text, parents, one, relation.words, other))
    return tuple(facts)


def covered(facts: tuple[Fact, ...], caption: str) -> tuple[bool, ...]:
    """For each fact, whether a caption states it; what depends on an uncovered fact is not covered.

    Words are compared as they stand, up to number, spelling and the two ways to say a relation ("a above b", "b under
    a"): a caption's synonym ("puppy" for "dog") does not cover. "two rings" does not cover "a ring".

    Example:
        >>> covered(prompt_facts("a red ring above a square"), "a blue square under a red ring")
        (True, True, True, True)
        >>> covered(prompt_facts("two red rings"), "a red ring")
        (True, True, False)
    """
    said = _with_actions(read_description(caption))
    holds: list[bool] = []
    for fact in facts:
        holds.append(all(holds[parent] for parent in fact.depends_on) and _is_said(fact, said))
    return tuple(holds)


def coverage(prompt: str, caption: str) -> float | None:
    """Share of a prompt's facts that a caption covers, 0 to 1; None for a prompt that names nothing.

    Example:
        >>> coverage("a red ring", "a blue ring")
        0.5
    """
    holds = covered(prompt_facts(prompt), caption)
    return sum(holds) / len(holds) if holds else None


def _with_actions(said: Description) -> Description:
    """A dog that runs through a field is a dog running."""
    things = list(said.things)
    for relation in said.relations:
        action = relation.words.split()[0]
        if action.endswith("ing"):
            subject = things[relation.subject]
            things[relation.subject] = replace(subject, after=(*subject.after, action))
    return replace(said, things=tuple(things))


def _about(kind: Kind, thing: Thing, depends_on: tuple[int, ...], is_last: bool) -> Fact:
    return Fact(kind, thing.phrase(), depends_on, thing, is_last=is_last)


def _is_said(fact: Fact, said: Description) -> bool:
    shown = [thing for thing in said.things if fact.thing.is_shown_by(thing)]
    numbers = [thing.number for thing in shown]
    if fact.kind == "relation":
        return _relation_is_said(fact, said)
    if fact.kind == "number":
        return None not in numbers and sum(numbers) == fact.thing.number
    contradicted = fact.is_last and None not in numbers and sum(numbers) != 1
    return bool(shown) and not contradicted


def _relation_is_said(fact: Fact, said: Description) -> bool:
    ends = (fact.thing, fact.object)
    asked = Relation(0, fact.relation, 1).meanings()
    found = {meaning for relation in said.relations for meaning in relation.meanings()}
    return any(
        meaning == other_meaning
        and ends[one].is_shown_by(said.things[first])
        and ends[other].is_shown_by(said.things[second])
        for meaning, one, other in asked
        for other_meaning, first, second in found
    )
