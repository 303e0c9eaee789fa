"""What a prompt states, as a set: so that two prompts can be compared by what only one of them says."""

from reward.language.parts import PromptReading, Thing
from reward.language.reading import read_prompt
from reward.language.words import usual_word

Statement = tuple[object, ...]


def statements(prompt: str) -> frozenset[Statement]:
    """Things, attributes, numbers, relations, texts and denials of a prompt.

    Raises:
        ImportError: the prompt needs spaCy's English model and there is none; see `read_prompt`.

    Example:
        >>> sorted(kind for kind, *_ in statements("two red rings"))
        ['attribute', 'number', 'thing']
    """
    reading = read_prompt(prompt)
    found: set[Statement] = set()
    for thing in reading.things:
        if thing.absent:
            found.add(("absent", thing.noun))
            continue
        found.add(("thing", thing.noun, thing.kind))
        found |= {("attribute", thing.noun, usual_word(attribute)) for attribute in thing.attributes}
        found |= {("denied", thing.noun, attribute) for attribute in thing.denied}
        if thing.number not in (None, 1):
            found.add(("number", thing.noun, thing.number))
    for relation in reading.relations:
        for meaning, one, other in relation.meanings():
            found.add(("relation", relation.denied, _said(reading, one), meaning, _said(reading, other)))
    return frozenset(found | {("text", text.words) for text in reading.texts})


def share_kept(prompt: str, changed: str) -> float:
    """Share of what a changed prompt states that the prompt states too: what a picture of the prompt shows of it.

    Returns:
        0 to 1; 1 where the changed prompt states nothing.

    Example:
        >>> share_kept("a red ring above a square", "a red ring above a triangle")
        0.5
    """
    asked = statements(changed)
    return len(asked & statements(prompt)) / len(asked) if asked else 1.0


def _said(reading: PromptReading, place: int) -> tuple[object, ...]:
    thing: Thing = reading.things[place]
    return thing.noun, thing.kind, frozenset(map(usual_word, thing.attributes)), thing.number
