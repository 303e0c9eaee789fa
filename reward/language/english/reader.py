"""A prompt in English -> its `PromptReading`, from a parse: the things first, then what is said of them.

The parse is spaCy's; what it calls a noun is not always a thing of the picture. Ways to make a picture, its parts and
measures (`reward.language.english.vocabulary`) are told apart in `reward.language.english.nouns`.
"""

from dataclasses import replace
from typing import Any

from reward.language.english.draft import Draft
from reward.language.english.marking import Marked, Word, mark
from reward.language.english.model import parse
from reward.language.english.nouns import NOUNS
from reward.language.english.predicates import read_predicates
from reward.language.english.style import read_style
from reward.language.english.things import read_things
from reward.language.parts import PromptReading, Text

_MOST_WORDS = 1000  # what comes after is not read: a parse takes time and memory


def read_english(prompt: str) -> PromptReading:
    """Read a prompt in English.

    Raises:
        ImportError: spaCy or its English model is not installed; the message has the command.
    """
    marked = mark(prompt)
    marked = replace(marked, words=marked.words[:_MOST_WORDS])
    if not marked.words:
        return PromptReading(texts=tuple(Text(q, None, s) for q, s in marked.quotes), style=marked.parameters)
    words, starts = [_for_parser(word) for word in marked.words], [word.starts_sentence for word in marked.words]
    doc = parse(words, starts)
    more = clause_starts(doc)
    if more:
        doc = parse(words, [start or place in more for place, start in enumerate(starts)])
    draft = Draft(doc, marked.words)
    read_things(draft)
    read_predicates(draft)
    read_style(draft)
    _add_texts(draft, marked)
    return PromptReading(
        tuple(draft.things), tuple(draft.relations), tuple(draft.texts), (*draft.style, *marked.parameters),
        tuple(draft.denials), tuple(draft.style_spans),
    )  # fmt: skip


def clause_starts(doc: Any) -> set[int]:
    """Where a comma is followed by a clause of its own: "the legs are bent, the head is up".

    Prompts join sentences with commas, which a parser takes for lists.
    """
    found = set()
    for comma in doc:
        if comma.text != "," or comma.i + 2 >= len(doc):
            continue
        at = comma.i + 1
        if doc[at].lower_ in ("and", "while"):
            at += 1
        while at < len(doc) and (doc[at].pos_ in ("DET", "ADJ", "NUM", "NOUN", "PROPN") or doc[at].tag_ == "PRP$"):
            at += 1
        if at > comma.i + 1 and at < len(doc) and doc[at - 1].pos_ in NOUNS and _says_something(doc[at]):
            found.add(comma.i + 1)
    return found


def _says_something(token: Any) -> bool:
    return token.pos_ == "AUX" or token.tag_ in ("VBN", "VBZ", "VBP", "VBD", "VBG") or (
        token.pos_ == "ADV" and token.lower_ not in ("very", "also")
    )  # fmt: skip


def _for_parser(word: Word) -> str:
    # what is shouted is tagged as a name
    return word.plain.lower() if word.plain.isupper() and len(word.plain) > 3 else word.plain


def _add_texts(draft: Draft, marked: Marked) -> None:
    """Each quoted text belongs to the last thing before it in its sentence."""
    for words, span in marked.quotes:
        bearer, start = None, -1
        for token in draft.doc:
            if token.i in draft.places and draft.words[token.i].span[1] <= span[0]:
                bearer, start = draft.places[token.i], token.i
        if start >= 0 and any(w.starts_sentence and w.span[0] <= span[0] for w in draft.words[start + 1 :]):
            bearer = None
        draft.texts.append(Text(words, bearer, span))

