"""Coloured shapes and how they stand, read without a parser: the prompts and captions of the tiny world.

A text is read here where every word of it is known here; any other goes to the parser.
"""

import re

from reward.language.parts import NO_SPAN, PromptReading, Relation, Span, Thing
from reward.language.words import number_of, singular_of, usual_word

_ATTRIBUTES = frozenset(
    "red orange yellow green cyan blue purple magenta pink brown black white grey gray big small large tiny".split()
)
_NOUNS = frozenset(
    "circle square triangle rectangle oval star heart ring cross disc diamond hexagon cube sphere cylinder cone pyramid"
    " object shape".split()
)
_RELATIONS = tuple(
    tuple(words.split())
    for words in (
        "to the left of|to the right of|on the left of|on the right of|left of|right of|next to|above|below|over|under"
        "|beside|near|inside|behind|between"
    ).split("|")
)
_LINKS = frozenset("and , . nothing".split())
_ARTICLES = frozenset("a an the".split())
_WORD = re.compile(r"\w+|[^\w\s]")


def read_small_grammar(prompt: str) -> PromptReading | None:
    """Read a text about coloured shapes; None where it has a word of another kind.

    Example:
        >>> reading = read_small_grammar("two red rings left of a square")
        >>> [(thing.noun, thing.number, thing.before) for thing in reading.things], reading.relations[0].words
        ([('ring', 2, ('red',)), ('square', 1, ())], 'left of')
        >>> read_small_grammar("a dog") is None
        True
    """
    words = [(match.group().lower(), match.span()) for match in _WORD.finditer(prompt)]
    things: list[Thing] = []
    relations: list[Relation] = []
    waiting: tuple[int, str, Span] | None = None  # a relation that has its subject and looks for its object
    determiner, number, number_span, before, start = "", None, NO_SPAN, [], None
    at = 0
    while at < len(words):
        word, span = words[at]
        relation = next((r for r in _RELATIONS if tuple(w for w, _ in words[at : at + len(r)]) == r), None)
        if relation:
            last = words[at + len(relation) - 1][1]
            waiting = (len(things) - 1, " ".join(relation), (span[0], last[1])) if things else None
            at += len(relation)
            continue
        at += 1
        if word in _LINKS:
            waiting = None
        elif word in _ARTICLES:
            determiner, number, before = word, 1 if word != "the" else None, []
            start = span[0]
        elif number_of(word) is not None:
            number, number_span, before = number_of(word), span, []
            start = None
        elif word in _ATTRIBUTES:
            before.append(word)
            start = span[0] if start is None else start
        elif singular_of(word) in _NOUNS:
            start = span[0] if start is None else start
            things.append(
                Thing(usual_word(singular_of(word)), tuple(dict.fromkeys(before)), (), number,
                      "the" if determiner == "the" and number is None else "", word, span=(start, span[1]),
                      number_span=number_span)  # fmt: skip
            )
            if waiting:
                relations.append(Relation(waiting[0], waiting[1], len(things) - 1, span=waiting[2]))
            waiting, determiner, number, number_span, before, start = None, "", None, NO_SPAN, [], None
        else:
            return None
    return PromptReading(tuple(things), tuple(relations))
