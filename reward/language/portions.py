"""A prompt that is too long for a text tower -> portions that are not, cut where a reader would pause.

A sentence is a portion. One that does not fit is cut at commas and before conjunctions and prepositions, each time as
late as it fits; one without those between any two words.
"""

import re
from collections.abc import Callable

_SENTENCES = re.compile(r"(?<=[.!?;])\s+|\n+")
_PHRASES = re.compile(
    r"(?<=[,:)])\s+|\s+(?=(?:and|or|but|while|with|without|on|in|at|under|over|above|below|behind|beside|near|between"
    r"|next|left|right|to|of|for|from|by|as|that|which|who)\b)",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\s+")


def portions(prompt: str, fits: Callable[[str], bool]) -> list[str]:
    """The portions of a prompt, in its order; the prompt alone where it fits.

    Args:
        fits: whether a text can be read whole. A single word that does not fit is a portion all the same.

    Example:
        >>> portions("a cat on a mat. two dogs, one of them brown", lambda text: len(text) < 20)
        ['a cat on a mat.', 'two dogs, one', 'of them brown']
    """
    if fits(prompt):
        return [prompt]
    found: list[str] = []
    for sentence in _parts(_SENTENCES, prompt):
        found += [sentence] if fits(sentence) else _packed(sentence, fits, [_PHRASES, _WORDS])
    return found or [prompt]


def _packed(text: str, fits: Callable[[str], bool], borders: list[re.Pattern]) -> list[str]:
    """A text in as few portions as fit, cut at the first kind of border; what is still too long at the next kind."""
    found: list[str] = []
    for part in _parts(borders[0], text):
        if found and fits(f"{found[-1]} {part}"):
            found[-1] += f" {part}"
        elif fits(part) or not borders[1:]:
            found.append(part)
        else:
            found += _packed(part, fits, borders[1:])
    return found


def _parts(border: re.Pattern, text: str) -> list[str]:
    return [part.strip() for part in border.split(text) if part.strip()]
