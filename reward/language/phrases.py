"""A prompt -> its phrases: the things it names, their numbers, and how they stand to one another.

Closed classes of English words (determiners, numbers, prepositions, conjunctions) and the ending -ing carry the
split; there is no parser and no list of what a prompt may be about. What it cannot tell apart stays together in one
phrase, which costs detail and never words: the pieces joined again are the prompt.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["thing", "number", "relation", "link"]

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
DETERMINERS = frozenset("a an the this that these those some any his her its their my your our".split())
MEDIA = frozenset(
    "photo photograph picture image painting drawing sketch illustration render rendering portrait poster".split()
)
# the longest first where one begins another
_RELATIONS = tuple(
    tuple(relation.split())
    for relation in (
        "to the left of|to the right of|on the left of|on the right of|on top of|in front of|at the top of"
        "|at the bottom of|in the middle of|in the background of|on the back of|left of|right of|next to|close to"
        "|far from|inside of|outside of|above|below|over|under|underneath|beneath|behind|before|beside|besides|between"
        "|near|inside|outside|on|in|at|around|against|through|across|along|into|onto|by|among|towards|toward|beyond"
    ).split("|")
)
_COPULAS = frozenset("is are was were".split())
_LINKS = _COPULAS | frozenset("and or but while plus with being who which".split())
# nouns that end like a participle
_NOUNS_IN_ING = frozenset(
    "ring king wing string spring thing something nothing everything anything building painting drawing rendering"
    " clothing ceiling evening morning earring swing sling railing wedding pudding dumpling sibling lightning bling"
    " clearing crossing opening icing stuffing landing covering herring duckling sapling darling earthling".split()
)
_MOST_DIGITS = 18
_WORD = re.compile(r"[^\s,;:.!?()|]+(?:[.:][^\s,;:.!?()|]+)*|[,;:.!?()|]")
_MARKS = frozenset(",;:.!?()|")


@dataclass(frozen=True)
class Piece:
    """A run of a prompt's words.

    Attributes:
        text: the words.
        kind: ``"thing"`` (a noun with what belongs to it), ``"number"`` (of the thing that follows), ``"relation"``
            (a preposition or a verb in -ing) or ``"link"`` (a conjunction or a punctuation mark, which says nothing
            that a picture could break).
    """

    text: str
    kind: Kind


def split_prompt(prompt: str) -> tuple[Piece, ...]:
    """The pieces of a prompt, in its order.

    Example:
        >>> [(piece.text, piece.kind) for piece in split_prompt("two cats left of a red car")]
        [('two', 'number'), ('cats', 'thing'), ('left of', 'relation'), ('a red car', 'thing')]
    """
    words = _WORD.findall(prompt)
    lower = [word.lower() for word in words]
    pieces: list[Piece] = []
    thing: list[str] = []

    def close_thing():
        if not thing:
            return
        if len(thing) > 1 and (thing[0].lower() in NUMBERS or _is_number(thing[0])):
            pieces.append(Piece(thing.pop(0), "number"))
        bare = all(word.lower() in DETERMINERS for word in thing)
        pieces.append(Piece(" ".join(thing), "link" if bare else "thing"))
        thing.clear()

    at = 0
    while at < len(words):
        length, kind = _joint(lower, at, bool(thing))
        if length == 0:
            thing.append(words[at])
            at += 1
            continue
        close_thing()
        text = " ".join(words[at : at + length])
        if kind == "relation" and pieces and pieces[-1].kind == "relation":
            pieces[-1] = replace(pieces[-1], text=f"{pieces[-1].text} {text}")
        else:
            pieces.append(Piece(text, kind))
        at += length
    close_thing()
    return tuple(pieces)


def _is_number(word: str) -> bool:
    # not isdigit(), which holds for ², and nothing that Python would refuse to read
    return word.isdecimal() and len(word) <= _MOST_DIGITS


def join_pieces(pieces: Sequence[Piece]) -> str:
    """The prompt that pieces make, up to its spaces; a mark stands at the word before it, a bracket opens at the next.

    Example:
        >>> join_pieces(split_prompt("a cat, two dogs"))
        'a cat, two dogs'
    """
    text = ""
    for piece in pieces:
        touches = not text or text.endswith("(") or (piece.text in _MARKS and piece.text != "(")
        text += piece.text if touches else f" {piece.text}"
    return text


def left_out(pieces: Sequence[Piece], index: int) -> str:
    """The prompt without one piece: a thing goes with its number and the joint beside it, a relation becomes "and".

    Example:
        >>> left_out(split_prompt("two cats left of a red car"), 3)
        'two cats'
    """
    if pieces[index].kind == "relation" and 0 < index < len(pieces) - 1:
        return join_pieces([*pieces[:index], Piece("and", "link"), *pieces[index + 1 :]])
    before, after = list(pieces[:index]), list(pieces[index + 1 :])
    if pieces[index].kind == "thing":
        if before and before[-1].kind == "number":
            before.pop()
        side = before if before else after
        at = -1 if before else 0
        while side and side[at].kind in ("relation", "link"):
            side.pop(at)
    return join_pieces([*before, *after])


def _joint(lower: list[str], at: int, in_thing: bool) -> tuple[int, Kind]:
    """How many words from `at` on join two things, and of which kind they are; 0: the word belongs to a thing."""
    word, previous = lower[at], lower[at - 1] if at else ""
    if word in _MARKS or word in _LINKS:
        return 1, "link"
    if word == "of" and previous in MEDIA:
        return 1, "link"
    for relation in _RELATIONS:
        if tuple(lower[at : at + len(relation)]) == relation:
            return len(relation), "relation"
    participle = word.endswith("ing") and len(word) > 4 and word not in _NOUNS_IN_ING
    # "a running dog": there it belongs to the noun
    after_a_noun = in_thing or previous in _COPULAS
    if participle and after_a_noun and previous not in DETERMINERS and previous not in NUMBERS:
        return 1, "relation"
    return 0, "thing"
