"""One word of a phrase -> the words that could stand in its place: what the picture might show instead.

Classes of common English words, each meant to hold what excludes one another: a thing that is red is not blue. They
are a sample, not a dictionary; a noun of no class is swapped for one noun of every class.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reward.language.phrases import DETERMINERS, NUMBERS, Piece, join_pieces

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
        "photo painting drawing sketch sculpture cartoon",
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
_SPELLINGS = {"gray": "grey", "plane": "airplane", "bike": "bicycle", "violet": "purple", "couch": "sofa"}
_KNOWN_NOUNS = frozenset(noun for nouns in _NOUN_CLASSES for noun in nouns)
_IRREGULAR = {"man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice",
              "sheep": "sheep", "fish": "fish", "knife": "knives", "shelf": "shelves"}  # fmt: skip
_SINGULAR = {plural: singular for singular, plural in _IRREGULAR.items()}


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
        >>> next(swaps(split_prompt("a cat left of a dog"), 1)).prompt
        'a cat right of a dog'
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


def plural_of(noun: str) -> str:
    """An English noun's plural, by rule and the commonest exceptions."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


def singular_of(noun: str) -> str:
    """The inverse of `plural_of`; a noun that is no plural stays as it is."""
    if noun in _SINGULAR:
        return _SINGULAR[noun]
    if noun.endswith(("ss", "us", "is")):
        return noun
    endings = (("ies", "y"), ("s", ""), ("es", ""))
    stems = [noun[: -len(ending)] + stem for ending, stem in endings if noun.endswith(ending) and noun != ending]
    fitting = [stem for stem in stems if plural_of(stem) == noun]
    # "houses" is of "house" but "buses" of "bus": only knowing the word helps
    return next((stem for stem in fitting if stem in _KNOWN_NOUNS), fitting[0] if fitting else noun)


def usual_word(word: str) -> str:
    """The commonest of the words or spellings that mean the same: "gray" -> "grey"; others as they are."""
    return _SPELLINGS.get(word, word)


def articles_agree(words: Sequence[str]) -> str:
    """Words as text in which "a" and "an" fit what follows them."""
    agreed = list(words)
    for at, (word, following) in enumerate(zip(words, words[1:], strict=False)):
        if word.lower() in ("a", "an"):
            agreed[at] = word[0] + ("n" if following[:1].lower() in tuple("aeiou") else "")
    return " ".join(agreed)


def _changes(pieces: Sequence[Piece], index: int) -> Iterator[tuple[str, str, list[Piece]]]:
    piece = pieces[index]
    if piece.kind == "number":
        yield from _number_changes(pieces, index)
    elif piece.kind == "relation":
        words = piece.text.lower().split()
        for new in _other_relations(words):
            yield piece.text, new, _with(pieces, index, new)
    elif piece.kind == "thing":
        words = piece.text.split()
        for at, word in enumerate(words):
            for new in _other_words(word.lower(), is_head=at == len(words) - 1):
                text = articles_agree([*words[:at], new, *words[at + 1 :]])
                yield word, new, _with(pieces, index, text)


def _number_changes(pieces: Sequence[Piece], index: int) -> Iterator[tuple[str, str, list[Piece]]]:
    old = pieces[index].text
    value = int(old) if old.isdigit() else NUMBERS.index(old.lower()) + 1
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
        rest = words[1:]
        return [" ".join([other, *rest]) for other in _ACTIONS if other != words[0]]
    return ()


def _other_words(word: str, is_head: bool) -> Sequence[str]:
    word = usual_word(word)
    if is_head:
        single = singular_of(word)
        inflect = plural_of if single != word or word in _SINGULAR else str
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
    return [*pieces[:index], replace(pieces[index], text=text), *pieces[index + 1 :]]
