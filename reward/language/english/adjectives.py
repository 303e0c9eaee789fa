"""Attributes without a verb: behind their noun, right beside a noun, or "one green and one clear"."""

from dataclasses import replace
from typing import Any

from reward.language.english import vocabulary as v
from reward.language.english.draft import Draft
from reward.language.english.nouns import is_noun, lemma
from reward.language.english.subjects import VERBS, noun_places, subjects_of, with_degree
from reward.language.parts import NO_SPAN

_PREDICATES = ("acomp", "advcl", "ROOT", "ccomp")


def read_adjective(draft: Draft, adjective: Any) -> None:
    """An adjective that stands behind what it tells of, or alone.

    "A room full of books", "legs wide apart", "a cat, black and white", "the cat has one eye open".
    """
    if adjective.i and adjective.nbor(-1).lower_ == "one" and adjective.nbor(-1).i not in draft.places:
        read_one_of(draft, adjective.nbor(-1), [adjective])
        return
    if adjective.dep_ in ("advcl", "ccomp", "ROOT", "xcomp"):
        beside = adjective.i and adjective.nbor(-1).i in draft.places
        _tell(draft, [] if beside else subjects_of(draft, adjective), adjective)
        return
    if adjective.dep_ not in ("amod", "appos", "acl", "relcl", "conj") or adjective.i < adjective.head.i:
        return
    head = adjective.head
    if adjective.dep_ == "conj":
        while head.dep_ == "conj" and head.pos_ in ("ADJ", "VERB"):
            head = head.head
        if head.pos_ in VERBS or (head.pos_ == "ADJ" and head.dep_ in _PREDICATES):
            _tell(draft, subjects_of(draft, head), adjective)
            return
    places = noun_places(draft, head, expand=False)
    if any(child.dep_ == "nummod" or child.lower_ == "one" for child in adjective.children):
        for place in places:
            _add_one_of(draft, place, adjective)
        return
    _tell(draft, places, adjective)


def read_beside(draft: Draft, head: Any) -> None:
    """What stands right behind a noun, whatever the tree makes of it: "torso bent", "right arm up"."""
    at = head.i + 1
    tokens: list[Any] = []
    while at < len(head.doc) and not head.doc[at].is_sent_start and _tells_of_left(head.doc[at], first=not tokens):
        tokens.append(head.doc[at])
        at += 1
    tokens += _where_a_limb_is(head, at)
    if tokens:
        span = draft.span(tokens[0], tokens[-1])
        draft.add_attribute(draft.places[head.i], draft.said(tokens), span, before=False)


def read_one_of(draft: Draft, one: Any, adjectives: list[Any] | None = None) -> None:
    """ "Two bottles, one green and one clear": a bottle that is green, a bottle that is clear.

    Args:
        one: the word that stands for one of them.
        adjectives: what it is like; found in the tree if left out.
    """
    before = [place for i, place in draft.places.items() if i < one.i]
    if not before or one.pos_ not in ("NUM", "PRON", "NOUN", "ADJ"):
        return
    own = [child for child in one.children if child.pos_ == "ADJ" and child.dep_ in ("amod", "acomp", "appos")]
    adjectives = adjectives or own
    if not adjectives and one.dep_ in ("nsubj", "nsubjpass"):
        adjectives = [child for child in one.head.children if child.dep_ == "acomp"]
    several = [place for place in before if draft.things[place].is_plural or (draft.things[place].number or 1) > 1]
    for adjective in adjectives:
        _add_one_of(draft, (several or before)[-1], adjective)


def _tell(draft: Draft, places: list[int], adjective: Any) -> None:
    words = sorted(with_degree(adjective), key=lambda token: token.i)
    first = words[0]
    if adjective.lower_ in v.QUALITY and first.i and first.nbor(-1).text == ",":
        return  # ", highly detailed" is how the picture is made
    for place in places:
        draft.add_attribute(place, draft.said(words), draft.span(first, words[-1]), before=True)


def _tells_of_left(token: Any, first: bool) -> bool:
    """Whether a word behind a noun belongs to it and not to what follows."""
    takes_object = any(child.dep_ in ("pobj", "dobj") for child in token.children)
    modifier = token.dep_ in ("amod", "advmod", "nmod", "compound", "npadvmod")
    if takes_object or (modifier and token.head.i > token.i and token.head.pos_ not in VERBS):
        return False
    adjective = token.tag_ == "VBN" or (token.pos_ == "ADJ" and token.dep_ != "acomp")
    return token.lower_ in v.DIRECTIONS or (first and adjective)


def _where_a_limb_is(head: Any, at: int) -> list[Any]:
    """ "Left arm to the side", "hands in front": said of a limb, whatever verb the tree hangs it on."""
    if lemma(head) not in v.BODY or at >= len(head.doc) or head.doc[at].pos_ not in ("ADP", "SCONJ", "PART"):
        return []
    tokens = [head.doc[at]]
    for token in head.doc[at + 1 : at + 5]:
        if token.pos_ not in ("DET", "ADJ", "PRON", "ADV", "ADP") and not is_noun(token):
            return []
        tokens.append(token)
        if is_noun(token):
            return tokens if lemma(token) in v.PLACES | v.MEASURES else []
    return []


def _add_one_of(draft: Draft, whole: int, adjective: Any) -> None:
    thing, said = draft.things[whole], adjective.lower_
    if any(other.noun == thing.noun and other.before == (said,) for other in draft.things):
        return
    one = replace(thing, before=(said,), after=(), number=1, written=thing.noun, number_span=NO_SPAN)
    draft.things.append(replace(one, span=NO_SPAN, attribute_spans=(draft.words[adjective.i].span,)))
