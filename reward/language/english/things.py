"""The things of a parse: their numbers, attributes and kinds, and which of them speak of the same one again."""

from typing import Any

from reward.language.english import vocabulary as v
from reward.language.english.draft import Draft
from reward.language.english.nouns import NOUNS, is_head, is_named_for_something_else, is_style, lemma, words_before
from reward.language.parts import NO_SPAN, Span, Thing
from reward.language.words import number_of, singular_of, usual_word

_SUBJECTS = ("nsubj", "nsubjpass")


def read_things(draft: Draft) -> None:
    """Add the things that a parse names to a draft, in their order."""
    for head in _find_heads(draft):
        _add_thing(draft, head)


def _find_heads(draft: Draft) -> list[Any]:
    heads = []
    for token in draft.doc:
        if not is_head(token):
            continue
        word = lemma(token)
        if word in v.MEASURES or word in v.WRITING or is_named_for_something_else(token):
            continue
        described = any(t.pos_ in ("ADJ", "VERB") for t in words_before(token))
        if word in v.PLACES and token.dep_ not in _SUBJECTS and not described:
            continue
        is_group = word in v.GROUPS and any(c.dep_ == "prep" and c.lower_ == "of" for c in token.children)
        if not is_group and not is_style(token):
            heads.append(token)
    return heads


def _add_thing(draft: Draft, head: Any) -> None:
    if head.lower_ in ("one", "ones"):
        return
    parts = words_before(head)
    name = [token for token in parts if token.pos_ == "PROPN"] if head.pos_ == "PROPN" else []
    number, number_span, determiner, absent = None, NO_SPAN, "", False
    before: list[str] = []
    kind: list[str] = []
    waiting: list[Any] = []  # what grades the next adjective: "very", "hand" of "hand painted"
    for token in parts:
        word = token.lower_
        value = number_of(word) if token.pos_ == "NUM" else None
        if token in name:
            continue
        if value is not None:
            number, number_span = value, draft.words[token.i].span
        elif word in ("a", "an", "another"):
            number = number or 1
        elif word == "no" and token.pos_ == "DET":
            absent = True
        elif token.pos_ == "DET" or token.tag_ == "PRP$" or word in v.QUANTITIES:
            determiner = determiner or word
        elif token.pos_ == "ADV" or token.dep_ == "npadvmod":
            waiting.append(token)
        elif token.pos_ in NOUNS:
            kind.append(draft.said([*waiting, token]))
            waiting = []
        else:
            before.append(draft.said([*waiting, token]))
            waiting = []
    kind += [draft.said([token]) for token in waiting if token.pos_ in NOUNS]
    owner = next((child for child in head.children if child.dep_ == "poss" and child.tag_ != "PRP$"), None)
    if owner is not None and not determiner:
        determiner = draft.said(list(owner.subtree))
    if number is None:
        number, number_span, more = _number_of_group(draft, head)
        before = [*more, *before]
    written = " ".join(draft.words[token.i].text for token in [*name, head])
    noun = written.lower() if name else usual_word(singular_of(written.lower()))
    if head.pos_ != "PROPN" and not written.isupper():
        written = written.lower()
    first = next((token for token in [*parts, head] if token.pos_ != "NUM"), head)
    thing = Thing(
        noun, tuple(dict.fromkeys(before)), (), number, "" if number is not None else determiner, written,
        tuple(kind), absent=absent or any(child.dep_ == "neg" for child in head.children),
        is_place=lemma(head) in v.PLACES and head.dep_ not in _SUBJECTS, span=draft.span(first, head),
        number_span=number_span,
    )  # fmt: skip
    same = _same_before(draft, thing, determiner)
    if same is None:
        draft.places[head.i] = len(draft.things)
        draft.things.append(thing)
        return
    draft.places[head.i] = same
    old = draft.things[same]
    draft.change(same, before=tuple(dict.fromkeys((*old.before, *before))), number=old.number or number,
                 kind=old.kind or thing.kind)  # fmt: skip


def _same_before(draft: Draft, thing: Thing, determiner: str) -> int | None:
    """The place of an earlier thing that "the car" or, among bare words, "car" speaks of again."""
    bare = not determiner and thing.number is None and not thing.is_plural and not thing.before
    if thing.absent or not (bare or determiner in ("the", "this", "that", "these", "those")):
        return None
    for place in range(len(draft.things) - 1, -1, -1):
        other = draft.things[place]
        same_noun = other.noun == thing.noun and (not thing.kind or thing.kind == other.kind)
        if same_noun and not other.absent and (set(thing.before) <= set(other.before) or not other.before):
            return place
    return None


def _number_of_group(draft: Draft, head: Any) -> tuple[int | None, Span, list[str]]:
    """Number and attributes of "nine different breeds of dogs", "a couple of dogs"."""
    if head.dep_ != "pobj" or head.head.lower_ != "of":
        return None, NO_SPAN, []
    group = head.head.head
    if lemma(group) in v.MEASURES:  # "different colors and sizes of rocks"
        joined = [group, *(t for t in group.children if t.dep_ == "conj")]
        adjectives = [t.lower_ for t in words_before(group) if t.pos_ == "ADJ" and t.lower_ not in v.QUANTITIES]
        return None, NO_SPAN, [f"{' '.join(adjectives)} {t.lower_} of" for t in joined if adjectives]
    if lemma(group) not in v.GROUPS:
        return None, NO_SPAN, []
    about = words_before(group)
    kinds = [t.lower_ for t in about if t.pos_ == "ADJ" and t.lower_ not in v.QUANTITIES]
    said = []
    if (kinds and lemma(group) in v.KINDS) or lemma(group) in v.ARRANGEMENTS:
        article = [t.lower_ for t in about if t.lower_ in ("a", "an")]
        said = [" ".join([*article, *kinds, group.lower_, "of"])]
    for token in about:
        if token.pos_ == "NUM" and number_of(token.lower_) is not None:
            return number_of(token.lower_), draft.words[token.i].span, said
    number = {"couple": 2, "trio": 3, "dozen": 12}.get(group.lower_)
    return number, draft.words[group.i].span if number else NO_SPAN, said
