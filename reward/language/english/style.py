"""How a prompt says that the picture is made: media, quality words, artists, in the prompt's own words."""

from typing import Any

from reward.language.english import vocabulary as v
from reward.language.english.draft import Draft
from reward.language.english.nouns import NOUNS, is_head, is_style, lemma, words_before

_MARKS = frozenset(",.;:|!?()[]/–—")


def read_style(draft: Draft) -> None:
    """Add the phrases about a picture's making to `draft.style`."""
    for segment in _segments(draft):
        named = [token for token in segment if token.i in draft.places]
        if len(named) == 1 and named[0] is segment[-1] and draft.things[draft.places[named[0].i]].is_place:
            _add(draft, segment)  # "white background"
            continue
        if not named and _is_making(segment):
            _add(draft, segment)
            continue
        if not named and draft.things and _is_quality(segment):
            span = draft.span(segment[0], segment[-1])
            draft.add_attribute(0, draft.said(segment), span, before=False)
            continue
        for token in segment:
            if is_head(token) and is_style(token):
                above = token.head
                led = [above] if token.dep_ == "pobj" and above.lower_ in ("by", "on") else []
                led = [above.head, *led] if led and above.head.lower_ in ("trending", "inspired") else led
                tail = list(token.subtree) if lemma(token) == "style" and token.i < segment[-1].i else []
                tail = [t for t in tail if segment[0].i <= t.i <= segment[-1].i]
                _add(draft, sorted({*led, *words_before(token), token, *tail}, key=lambda t: t.i))


def _segments(draft: Draft) -> list[list[Any]]:
    found: list[list[Any]] = [[]]
    for token in draft.doc:
        if token.text in _MARKS:
            found.append([])
        else:
            found[-1].append(token)
    return [segment for segment in found if segment]


def _is_making(segment: list[Any]) -> bool:
    """Whether a piece between commas that names nothing tells of the making: "highly detailed", "8k", "by Hokusai"."""
    if all(token.pos_ in ("DET", "PRON", "AUX", "CCONJ", "PUNCT", "ADP", "SCONJ") for token in segment):
        return False
    if segment[0].lower_ in ("by", "trending", "inspired") or any(is_style(t) for t in segment if is_head(t)):
        return not any(token.pos_ == "AUX" for token in segment)
    if any(token.pos_ in ("AUX", "PRON") for token in segment):
        return False
    return any(lemma(token) in v.QUALITY | v.STYLE for token in segment) or lemma(segment[-1]) in v.MEASURES


def _is_quality(segment: list[Any]) -> bool:
    """Whether a piece between commas is adjectives alone: "a fox, wet, shiny"."""
    return all(token.pos_ in ("ADJ", "ADV", "CCONJ") or token.tag_ == "VBN" for token in segment) and any(
        token.pos_ == "ADJ" for token in segment
    )


def _add(draft: Draft, tokens: list[Any]) -> None:
    tokens = [token for token in tokens if token.lower_ not in ("a", "an", "the", "this", "these")]
    phrase = draft.said(tokens)
    says = any(token.pos_ in (*NOUNS, "ADJ", "VERB", "ADV", "NUM", "X") for token in tokens)
    if says and phrase not in draft.style:
        draft.style.append(phrase)
        draft.style_spans.append(draft.span(tokens[0], tokens[-1]))
