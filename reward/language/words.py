"""English words of closed classes, plurals, spellings: what every reader of prompts shares."""

import re
from collections.abc import Sequence

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
DETERMINERS = frozenset("a an the this that these those some any his her its their my your our".split())
_SPELLINGS = {"gray": "grey", "plane": "airplane", "bike": "bicycle", "violet": "purple", "couch": "sofa"}
_IRREGULAR = {"man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice",
              "sheep": "sheep", "fish": "fish", "knife": "knives", "shelf": "shelves", "foot": "feet",
              "tooth": "teeth", "leaf": "leaves", "scarf": "scarves", "wolf": "wolves"}  # fmt: skip
_SINGULAR = {plural: singular for singular, plural in _IRREGULAR.items()}
_MOST_DIGITS = 18
# nouns whose plural could be of two singulars: "houses" is of "house" but "buses" of "bus"
_ENDING_IN_E = frozenset("house mouse blouse spouse cause clause axe ache".split())


def number_of(word: str) -> int | None:
    """What a number word or a number in digits says; None for other words.

    Example:
        >>> number_of("Two"), number_of("12"), number_of("many")
        (2, 12, None)
    """
    word = word.lower()
    if word in NUMBERS:
        return NUMBERS.index(word) + 1
    # not isdigit(), which holds for ², and nothing that Python would refuse to read
    return int(word) if word.isdecimal() and len(word) <= _MOST_DIGITS else None


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
    known = next((stem for stem in fitting if stem in _ENDING_IN_E), None)
    short = next((stem for stem in fitting if stem.endswith(("x", "ch", "sh", "ss", "zz", "us"))), None)
    return known or short or (fitting[0] if fitting else noun)


def is_irregular_plural(noun: str) -> bool:
    """Whether a noun is a plural that no rule makes: "men", "sheep"."""
    return noun in _SINGULAR


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
