"""One word of a phrase -> the words that could stand in its place: what the picture might show instead.

Classes of common English words, each meant to hold what excludes one another: a thing that is red is not blue. They
are a sample, not a dictionary; a noun of no class is swapped for one noun of every class.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reward.language.phrases import Piece, join_pieces
from reward.language.words import (
    DETERMINERS,
    NUMBERS,
    articles_agree,
    is_irregular_plural,
    number_of,
    plural_of,
    singular_of,
    usual_word,
)

_NOUN_CLASSES = tuple(
    tuple(words.split())
    for words in (
        "circle square triangle rectangle oval star heart ring cross disc diamond hexagon",
        "cube sphere cylinder cone pyramid ball box",
        "dog cat horse cow sheep pig bird chicken duck fish elephant lion tiger bear rabbit mouse monkey snake frog",
        "man woman boy girl child baby person robot",
        "car bus truck train bicycle motorcycle boat ship airplane helicopter",
        "chair table sofa bed desk bench shelf lamp cupboard",
        "apple orange banana lemon strawberry tomato bread cake pizza sandwich egg",
        "cup bottle glass bowl plate vase spoon fork knife teapot",
        "tree flower bush mushroom cactus",
        "house castle church tower bridge barn tent",
        "beach forest mountain desert city street lake river field garden kitchen room",
        "book phone clock umbrella bag guitar camera laptop key candle kite",
        "hat shirt dress coat shoe glove scarf",
        "sun moon cloud rainbow",
    )
)
_ADJECTIVE_CLASSES = tuple(
    tuple(words.split())
    for words in (
        "red orange yellow green cyan blue purple magenta pink brown black white grey",
        "big small",
        "large tiny",
        "tall short",
        "long short",
        "old young",
        "wooden metal glass plastic stone paper",
        "round square triangular",
        "open closed",
        "empty full",
        "happy sad angry",
        "wet dry",
        "bright dark",
        "striped spotted plain",
        "sunny rainy snowy foggy",
    )
)
_RELATION_CLASSES = (
    ("left of", "right of", "above", "below"),
    ("to the left of", "to the right of", "above", "below"),
    ("on the left of", "on the right of", "above", "below"),
    ("on", "under", "next to", "inside"),
    ("on top of", "under", "next to", "inside"),
    ("in", "outside", "on", "under"),
    ("inside", "outside", "on", "under"),
    ("over", "under", "beside", "behind"),
    ("in front of", "behind", "beside", "above"),
    ("behind", "in front of", "beside", "above"),
    ("under", "on", "above", "beside"),
    ("next to", "far from", "above", "below"),
    ("beside", "far from", "above", "below"),
    ("near", "far from"),
    ("at", "far from"),
)
_ACTIONS = tuple(
    "holding riding chasing eating watching carrying pushing throwing sitting standing running jumping sleeping".split()
)
_MEDIA = tuple("photo painting drawing sketch sculpture cartoon".split())


@dataclass(frozen=True)
class Swap:
    """A prompt in which one word, number or relation is another: `old` became `new`, which makes `prompt`."""

    old: str
    new: str
    prompt: str


def swaps(pieces: Sequence[Piece], index: int) -> Iterator[Swap]:
    """The prompts in which one piece says something else; none for a link, or where no class knows its words.

    Example:
        >>> from reward.language.phrases import split_prompt
        >>> next(swaps(split_prompt("a ring left of a square"), 1)).prompt
        'a ring right of a square'
    """
    made = {join_pieces(pieces)}
    said = {piece.text.lower() for piece in pieces}
    for old, new, changed in _changes(pieces, index):
        # what the prompt says elsewhere already is no other picture
        if pieces[index].kind == "thing" and changed[index].text.lower() in said:
            continue
        prompt = join_pieces(changed)
        if prompt not in made:
            made.add(prompt)
            yield Swap(old, new, prompt)


def _changes(pieces: Sequence[Piece], index: int) -> Iterator[tuple[str, str, list[Piece]]]:
    piece = pieces[index]
    if piece.kind == "number":
        yield from _number_changes(pieces, index)
    elif piece.kind == "relation":
        words = piece.text.lower().split()
        for new in _other_relations(words):
            yield piece.text, new, _with(pieces, index, new)
    elif piece.kind == "denial":
        new = _affirmed(piece.text)
        if new:
            yield piece.text, new, _with(pieces, index, new)
    elif piece.kind in ("thing", "attribute", "style"):
        words = piece.text.split()
        for at, word in enumerate(words):
            is_head = piece.kind == "thing" and at == len(words) - 1
            others = _other_words(word.lower(), is_head) if piece.kind != "style" else _other_media(word.lower())
            for new in others or (_other_actions(word.lower()) if piece.kind == "attribute" else ()):
                text = articles_agree([*words[:at], new, *words[at + 1 :]])
                yield word, new, _with(pieces, index, text)


def _number_changes(pieces: Sequence[Piece], index: int) -> Iterator[tuple[str, str, list[Piece]]]:
    old = pieces[index].text
    value = number_of(old)
    if value is None or index + 1 == len(pieces):
        return
    *before, noun = pieces[index + 1].text.split()
    for other in [n for n in range(max(1, value - 2), value + 3) if n != value]:
        # "a" is what prompts write for one
        new = "a" if other == 1 else str(other) if old.isdigit() or other > len(NUMBERS) else NUMBERS[other - 1]
        number = singular_of(noun) if other == 1 else plural_of(singular_of(noun)) if value == 1 else noun
        words = articles_agree([new, *before, number]).split(" ", 1)
        changed = _with(pieces, index, words[0])
        yield old, words[0], _with(changed, index + 1, words[1])


def _other_relations(words: list[str]) -> Sequence[str]:
    text = " ".join(words)
    for relations in _RELATION_CLASSES:
        if text == relations[0]:
            return relations[1:]
    for relations in _RELATION_CLASSES:
        if text in relations:
            return [other for other in relations if other != text]
    if words[0].endswith("ing"):
        return [" ".join([other, *words[1:]]) for other in _other_actions(words[0])]
    return ()


def _other_actions(word: str) -> Sequence[str]:
    return [other for other in _ACTIONS if other != word] if word.endswith("ing") and len(word) > 4 else ()


def _other_media(word: str) -> Sequence[str]:
    return [other for other in _MEDIA if other != word] if word in _MEDIA else ()


def _affirmed(text: str) -> str:
    """What is denied as if it were so: "without a hat" -> "with a hat", "no people" -> "people"."""
    first, _, rest = text.partition(" ")
    if first.lower() == "without":
        return f"with {rest}"
    return rest if first.lower() in ("no", "--no", "not", "never", "n't", "n’t") else ""


def _other_words(word: str, is_head: bool) -> Sequence[str]:
    word = usual_word(word)
    if is_head:
        single = singular_of(word)
        inflect = plural_of if single != word or is_irregular_plural(word) else str
        for nouns in _NOUN_CLASSES:
            if single in nouns:
                return [inflect(noun) for noun in nouns if noun != single]
    for words in _ADJECTIVE_CLASSES:
        if word in words:
            return [other for other in words if other != word]
    if is_head and word not in DETERMINERS:
        return [inflect(nouns[0]) for nouns in _NOUN_CLASSES]
    return ()


def _with(pieces: Sequence[Piece], index: int, text: str) -> list[Piece]:
    # "isn't red": what is left of it stands apart
    changed = replace(pieces[index], text=text, before=pieces[index].before or (" " if index else ""))
    return [*pieces[:index], changed, *pieces[index + 1 :]]
