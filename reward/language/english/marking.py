"""A prompt -> the words that the parser sees, each with its place in the prompt.

Quoted texts, parameters of a generator ("--ar 3:1", "::2") and long prepositions ("to the left of") confuse a parser
that was trained on newspapers. Quoted texts and parameters are taken out, a long preposition is one word.
"""

import re
from dataclasses import dataclass, replace

from reward.language.parts import Span

# the longest first where one begins another; each with a plain preposition that the parser knows
_LONG_PREPOSITIONS = {
    tuple(words.split()): plain
    for plain, group in {
        "near": "to the left of|to the right of|on the left of|on the right of|on the left side of"
        "|on the right side of|to the left side of|to the right side of|left of|right of|next to|close to|far from"
        "|adjacent to|in between|left to|right to|to the side of|to the left hand side of|to the right hand side of",
        "above": "on top of|at the top of|on the top of|in top of",
        "below": "at the bottom of|on the bottom of",
        "behind": "in the background of|in back of|in the back of|on the back of",
        "before": "in front of|in the front of|in the foreground of",
        "in": "in the middle of|in the center of|in the centre of|at the center of|in the corner of|inside of"
        "|in the shape of|on the side of|at the side of|on each side of|on both sides of"
        "|at the edge of|on the edge of|in the midst of|out of|outside of|on the inside of|on the outside of",
    }.items()
    for words in group.split("|")
}
_LONGEST = max(map(len, _LONG_PREPOSITIONS))
_SAYING = frozenset(
    "says say saying said reads read reading spells spell spelling spelled writes write written writing by of called"
    " titled labeled labelled named shows with and is are".split()
)
# quotes that open after a space and close before one: "it's" has none
_QUOTED = re.compile(
    r"(?<!\w)(?:\"(?P<a>[^\"\n]{1,200})\"|“(?P<b>[^”\n]{1,200})”|‘(?P<c>[^’\n]{1,200})’(?!\w)"
    r"|'(?P<d>(?! )[^\n\"]{0,200}?[^\s\"])'(?!\w))"
)
_WITHOUT = re.compile(r"--no(?=\s+\w)")  # a generator's "--no people"
_PARAMETER = re.compile(r"--(?!no\s+\w)\w+(?:[ =][\d.:]+)?|::(?:\s?-?\d[\d.]*)?|https?://\S+|<[^<>\s]{1,80}>")
_WORD = re.compile(r"\w+(?:[-’'./]\w+)*%?|[^\w\s]", re.UNICODE)
_BREAKS = frozenset(".;!?|\n")
STAND_IN = "this"


@dataclass(frozen=True)
class Word:
    """A word for the parser, what the prompt has there, and where."""

    plain: str
    text: str
    span: Span
    starts_sentence: bool = False


@dataclass(frozen=True)
class Marked:
    """A prompt taken apart: words for the parser, quoted texts with their places, parameters of a generator."""

    words: tuple[Word, ...]
    quotes: tuple[tuple[str, Span], ...]
    parameters: tuple[str, ...]


def mark(prompt: str) -> Marked:
    """Take a prompt apart.

    Example:
        >>> marked = mark("a sign that says 'hello' to the left of a cat --ar 3:1")
        >>> [word.plain for word in marked.words]
        ['a', 'sign', 'that', 'says', 'this', 'near', 'a', 'cat']
        >>> marked.quotes[0][0], marked.parameters
        ('hello', ('--ar 3:1',))
    """
    quotes: list[tuple[str, Span]] = []
    prompt = _unquoted(prompt)
    parameters: list[str] = []
    words: list[Word] = []
    at, fresh = 0, True
    special = sorted(
        [("quote", m) for m in _QUOTED.finditer(prompt)]
        + [("parameter", m) for m in _PARAMETER.finditer(prompt)]
        + [("without", m) for m in _WITHOUT.finditer(prompt)],
        key=lambda item: (item[1].start(), item[1].end()),
    )
    for kind, match in [*special, ("end", None)]:
        start = match.start() if match else len(prompt)
        if start < at:  # inside what was taken out before
            continue
        fresh = _plain_words(prompt, at, start, words, fresh)
        if match is None:
            break
        at = match.end()
        if kind == "quote":
            quotes.append((next(group for group in match.groups() if group is not None).strip(), match.span()))
            # behind a noun a text is a name of it and no word of the sentence
            if not words or words[-1].plain.lower() in _SAYING or not words[-1].plain[-1].isalnum():
                words.append(Word(STAND_IN, match.group(), match.span(), fresh))
                fresh = False
        elif kind == "without":
            words.append(Word("no", match.group(), match.span(), True))
            fresh = False
        else:
            parameters.append(match.group().strip())
            fresh = True
    return Marked(_with_long_prepositions(words), tuple(quotes), tuple(parameters))


def _unquoted(prompt: str) -> str:
    """The prompt without quotes around all of it or doubled ones, at the same length."""
    prompt = prompt.replace('""', ' "')
    ends = (prompt.lstrip()[:1], prompt.rstrip()[-1:])
    if ends in (('"', '"'), ("“", "”")) and prompt.count(ends[0]) + prompt.count(ends[1]) != 3:
        first, last = prompt.index(ends[0]), prompt.rindex(ends[1])
        inside = prompt[first + 1 : last]
        if inside.count(ends[0]) % 2 == 0 or ends[0] != ends[1]:
            return f"{prompt[:first]} {inside} {prompt[last + 1 :]}"
    return prompt


def _plain_words(prompt: str, start: int, end: int, words: list[Word], fresh: bool) -> bool:
    """Append the words between two places; whether a sentence begins behind them."""
    lines = prompt[start:end]
    for match in _WORD.finditer(lines):
        text = match.group()
        span = (start + match.start(), start + match.end())
        before = prompt[words[-1].span[1] : span[0]] if words else ""
        for word, place in _clitics(text, span[0]):
            words.append(Word(word, word, place, fresh or "\n" in before))
            fresh, before = False, ""
        fresh = text in _BREAKS
    return fresh


def _clitics(text: str, at: int) -> list[tuple[str, Span]]:
    """ "man's" -> "man", "'s"; "isn't" -> "is", "n't", as the parser was taught."""
    for ending in ("n't", "n’t", "'s", "’s", "'re", "'ve", "'ll"):
        if text.lower().endswith(ending) and len(text) > len(ending):
            cut = len(text) - len(ending)
            end = at + len(text)
            return [(text[:cut], (at, at + cut)), (text[cut:].replace("’", "'"), (at + cut, end))]
    return [(text, (at, at + len(text)))]


def _with_long_prepositions(words: list[Word]) -> tuple[Word, ...]:
    found: list[Word] = []
    at = 0
    lower = [word.plain.lower() for word in words]
    while at < len(words):
        for length in range(min(_LONGEST, len(words) - at), 1, -1):
            plain = _LONG_PREPOSITIONS.get(tuple(lower[at : at + length]))
            if plain:
                text = " ".join(lower[at : at + length])
                span = (words[at].span[0], words[at + length - 1].span[1])
                found.append(Word(plain, text, span, words[at].starts_sentence))
                at += length
                break
        else:
            # the parser takes "left" for the verb, and never "right"
            word = words[at]
            found.append(replace(word, plain={"left": "right", "+": "and", "&": "and"}.get(lower[at], word.plain)))
            at += 1
    return tuple(found)
