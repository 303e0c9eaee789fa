"""A prompt -> its phrases: things, numbers, attributes, relations, texts, what is denied; the rest links them.

Cut from one `PromptReading`, at the places that it gives: the pieces joined again are the prompt, to the character.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reward.language.parts import PromptReading, Span
from reward.language.reading import read_prompt

Kind = Literal["thing", "number", "attribute", "relation", "text", "denial", "style", "link"]
# where two overlap the first one is cut out
_ORDER: tuple[Kind, ...] = ("denial", "text", "thing", "number", "relation", "attribute", "style")


@dataclass(frozen=True)
class Piece:
    """A run of a prompt's words.

    Attributes:
        text: the words.
        kind: ``"thing"`` (a noun with what stands before it), ``"number"`` (of the thing that follows),
            ``"attribute"`` (of a thing, apart from it), ``"relation"`` (a preposition or a verb), ``"text"`` (quoted),
            ``"denial"`` ("without a hat", "no people", "not red"), ``"style"`` (how the picture is made) or ``"link"``
            (what joins them, and says nothing that a picture could break).
        before: what stands between it and the piece before it: mostly a space.
    """

    text: str
    kind: Kind
    before: str = " "


def split_prompt(prompt: str) -> tuple[Piece, ...]:
    """The pieces of a prompt, in its order.

    Raises:
        ImportError: the prompt needs spaCy's English model and there is none; see `read_prompt`.

    Example:
        >>> [(piece.text, piece.kind) for piece in split_prompt("two red rings left of a blue square")]
        [('two', 'number'), ('red rings', 'thing'), ('left of', 'relation'), ('a blue square', 'thing')]
    """
    pieces: list[Piece] = []
    at = 0

    def add(end: int, kind: Kind) -> None:
        nonlocal at
        words = prompt[at:end]
        text = words.strip()
        if text:
            pieces.append(Piece(text, kind, words[: len(words) - len(words.lstrip())] or _spaces_before(prompt, at)))
        at = end

    for (start, end), kind in _cuts(prompt, read_prompt(prompt)):
        add(start, "link")
        add(end, kind)
    add(len(prompt), "link")
    return tuple(pieces)


def join_pieces(pieces: Sequence[Piece]) -> str:
    """The prompt that pieces make; the spaces around it are dropped.

    Example:
        >>> join_pieces(split_prompt("two  rings, a square"))
        'two  rings, a square'
    """
    return "".join(piece.before + piece.text for piece in pieces).strip()


def left_out(pieces: Sequence[Piece], index: int) -> str:
    """The prompt without one piece: a thing goes with its number and the joint beside it, a relation becomes "and".

    Example:
        >>> left_out(split_prompt("two red rings left of a square"), 3)
        'two red rings'
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


def _spaces_before(prompt: str, at: int) -> str:
    return prompt[len(prompt[:at].rstrip()) : at]


def _cuts(prompt: str, reading: PromptReading) -> list[tuple[Span, Kind]]:
    """Places of the phrases, none over another, in order."""
    spans: dict[Kind, list[Span]] = {
        "denial": list(reading.denial_spans),
        "text": [text.span for text in reading.texts],
        "thing": [thing.span for thing in reading.things],
        "number": [thing.number_span for thing in reading.things if _is_next(prompt, thing.number_span, thing.span)],
        "relation": [relation.span for relation in reading.relations],
        "attribute": [span for thing in reading.things for span in thing.attribute_spans],
        "style": list(reading.style_spans),
    }
    taken: list[tuple[Span, Kind]] = []
    for kind in _ORDER:
        for start, end in sorted(set(spans[kind]), key=lambda span: (span[0], -span[1])):
            if start < end and all(end <= other[0] or start >= other[1] for other, _ in taken):
                taken.append(((start, end), kind))
    return sorted(taken)


def _is_next(prompt: str, first: Span, second: Span) -> bool:
    return first[1] > first[0] and re.fullmatch(r"\s+", prompt[first[1] : second[0]]) is not None
