"""What a parse says of things: attributes, relations with the right subject, and what is denied."""

from typing import Any

from reward.language.english import vocabulary as v
from reward.language.english.adjectives import read_adjective, read_beside, read_one_of
from reward.language.english.draft import Draft
from reward.language.english.marking import STAND_IN
from reward.language.english.nouns import NOUNS, is_noun, is_style, lemma
from reward.language.english.subjects import (
    VERBS,
    conjuncts,
    negation,
    noun_places,
    subjects_of,
    verb_words,
    with_degree,
)
from reward.language.parts import Relation, Span

_TIMES_AND_LIKENESS = frozenset("like than as during for to from".split())
_TAILS = ("advmod", "acomp", "oprd", "npadvmod", "dobj", "xcomp")


def read_predicates(draft: Draft) -> None:
    """Add attributes, relations and denials to a draft that has its things."""
    for token in draft.doc:
        stray = token.pos_ == "ADP" and token.dep_ in ("ROOT", "conj", "dep", "advmod", "acl")
        if token.dep_ in ("prep", "agent") or stray:
            _read_preposition(draft, token)
        elif token.pos_ in VERBS and not is_noun(token) and token.dep_ not in ("aux", "auxpass", "amod", "compound"):
            _read_verb(draft, token)
        elif token.pos_ == "ADJ":
            read_adjective(draft, token)
        if token.i in draft.places:
            read_beside(draft, token)
        elif token.lower_ in ("one", "other"):
            read_one_of(draft, token)
        if token.lower_ == "no" and token.dep_ == "det" and token.head.i in draft.places:
            draft.denials.append(draft.span(token, token.head))


def _read_preposition(draft: Draft, prep: Any) -> None:
    above, between = _governor(prep)
    word = draft.words[prep.i].text.lower()
    verb = above if above.pos_ in VERBS else None
    if verb is None and word in _TIMES_AND_LIKENESS:
        return
    if verb is None and word == "of" and lemma(prep.head) in v.GROUPS | v.MEDIA | v.MEASURES:
        return
    if verb is not None and lemma(verb) in v.SEEING and verb.tag_ != "VBN":
        return
    if verb is not None or above.pos_ in ("ADJ", "ADV"):
        subjects = subjects_of(draft, above)
    else:
        subjects = noun_places(draft, above, expand=False)
    denial = negation(above) if verb is not None else prep.nbor(-1) if prep.i else None
    denied = denial is not None and (verb is not None or denial.lower_ == "not")
    words, span = _relation_words(draft, prep, above, " ".join([*between, word]))
    for child in prep.children:
        if child.dep_ not in ("pobj", "pcomp", "dobj", "dep"):
            continue
        objects = noun_places(draft, child)
        if objects:
            # "standing with his arms raised": he has arms, he does not stand with them
            own = word == "with" and any(grand.dep_ == "poss" for grand in child.children)
            said = "with" if own or word == "without" else words
            if denied or word == "without":
                last = max([*child.subtree, *_alternatives(draft, child)], key=lambda token: token.i)
                draft.denials.append(draft.span(denial if denied else prep, last))
                objects += [draft.places[other.i] for other in _alternatives(draft, child)]
            _relate(draft, subjects, said, objects, denied or word == "without", span)
        elif child.pos_ in (*NOUNS, "ADJ", "ADV") and not is_style(child):
            _read_manner(draft, prep, child, subjects, denied)


def _alternatives(draft: Draft, noun: Any) -> list[Any]:
    """The gloves of "without a hat or gloves", which a parser may hang elsewhere."""
    after = noun.doc[noun.right_edge.i + 1 : noun.right_edge.i + 6]
    if not len(after) or after[0].lower_ not in ("or", "nor"):
        return []
    return [token for token in after if token.i in draft.places][:1]


def _governor(prep: Any) -> tuple[Any, list[str]]:
    """What a preposition belongs to, and the words between: "away" of "extended away from"."""
    above, between = prep.head, []
    if above.text == STAND_IN:  # "says 'hello' on a wall"
        above = above.head
    while above.pos_ in ("ADV", "ADP", "SCONJ") and above.dep_ in ("advmod", "prep", "prt") and above.i < prep.i:
        between.insert(0, above.lower_)
        above = above.head
    return above, between


def _relation_words(draft: Draft, prep: Any, above: Any, word: str) -> tuple[str, Span]:
    """A preposition with the verb or adjective that it belongs to: "sitting on", "full of"."""
    span = draft.words[prep.i].span
    if above.pos_ == "ADJ" and above.dep_ in ("acomp", "amod", "acl", "advcl", "conj", "oprd") and above.i < prep.i:
        word = f"{draft.said(with_degree(above))} {word}"
    if above.pos_ not in VERBS or lemma(above) == "be":
        return word, span
    # "a sign that says 'hello' on a wall": the sign is on the wall
    said = "" if lemma(above) in v.SAYING and above.tag_ != "VBN" else verb_words(above)
    if above.i < prep.i <= above.i + 2:
        span = draft.span(above, prep)
    return f"{said} {word}".strip(), span


def _read_manner(draft: Draft, prep: Any, noun: Any, subjects: list[int], denied: bool) -> None:
    """ "In the background", "of different sizes", "in a throwing pose", "in red": what a thing is like."""
    tail = [token for token in noun.subtree if token.i <= noun.i or token.dep_ == "conj"]
    colours = [token for token in tail if token.lower_ in v.COLOURS] if lemma(noun) in ("color", "colour") else []
    for colour in colours:
        _tell(draft, subjects, colour.lower_, draft.words[colour.i].span, True, denied)
    if colours:
        return
    above = _governor(prep)[0]
    verb = verb_words(above) if above.pos_ in VERBS and lemma(above) != "be" else ""
    _tell(draft, subjects, f"{verb} {draft.said([prep, *tail])}".strip(), draft.span(prep, noun), False, denied)


def _read_verb(draft: Draft, verb: Any) -> None:
    base = lemma(verb)
    if base in v.SEEING | v.SAYING and verb.tag_ != "VBN":
        return
    subjects = subjects_of(draft, verb)
    if not subjects:
        return
    if base == "be":
        _read_copula(draft, verb, subjects)
        return
    denial = negation(verb)
    said = verb_words(verb)
    found = False
    for child in verb.children:
        if child.dep_ in ("dobj", "attr", "oprd", "dative"):
            objects = noun_places(draft, child)
            found = found or bool(objects)
            _relate(draft, subjects, said or "with", objects, denial is not None, _verb_span(draft, verb))
            if denial is not None and objects:
                draft.denials.append(draft.span(denial, child))
    if found or not said:
        return
    tail = [c for c in verb.children if c.i > verb.i and c.dep_ in _TAILS and c.pos_ != "VERB"]
    if not tail and any(_leads_to_thing(draft, child) for child in verb.children):
        return  # "sitting on a chair" is a relation
    last = max([verb, *tail], key=lambda token: token.i)
    text = " ".join([said, *(draft.said(with_degree(child)) for child in tail)])
    _tell(draft, subjects, text, draft.span(verb, last), False, denial is not None)
    if denial is not None:
        draft.denials.append(draft.span(denial, last))


def _read_copula(draft: Draft, verb: Any, subjects: list[int]) -> None:
    """ "The car is red", "its color is red", "the sun is an orange", "the arms are down and out"."""
    denial = negation(verb)
    denied = denial is not None
    for child in verb.children:
        span = draft.words[child.i].span
        if child.dep_ in ("acomp", "attr") and child.pos_ in ("ADJ", "VERB", "NUM"):
            for adjective in [child, *conjuncts(child)]:
                said = draft.said(with_degree(adjective))
                _tell(draft, subjects, said, draft.words[adjective.i].span, True, denied)
            if denied:
                draft.denials.append(draft.span(denial, child))
        elif child.dep_ == "attr" and lemma(child) in v.MEASURES:
            for adjective in [token for token in child.children if token.dep_ == "amod"]:
                _tell(draft, subjects, adjective.lower_, draft.words[adjective.i].span, True, denied)
        elif child.dep_ == "attr" and not any(token.dep_ == "expl" for token in verb.children):
            others = [place for place in subjects if place not in noun_places(draft, child)]
            said = draft.said([token for token in child.subtree if token.i <= child.i and token.pos_ != "DET"])
            if noun_places(draft, child):
                _tell(draft, others, said, span, False, denied)
        elif child.dep_ == "advmod" and child.i > verb.i and child.lower_ not in ("also", "there", "here"):
            words = [t for t in child.subtree if t.i >= child.i and t.dep_ in ("advmod", "conj", "cc")]
            _tell(draft, subjects, draft.said(words), span, False, denied)


def _tell(draft: Draft, places: list[int], text: str, span: Span, before: bool, denied: bool) -> None:
    for place in places:
        draft.add_attribute(place, text, span, before, denied)


def _relate(
    draft: Draft, subjects: list[int], words: str, objects: list[int], denied: bool, span: Span
) -> None:
    """Relations of each subject to each object, once each; none of a thing to itself. What is denied is not there."""
    for place in objects:
        for subject in subjects:
            absent = denied or draft.things[place].absent or draft.things[subject].absent
            relation = Relation(subject, words, place, absent, span)
            if subject != place and relation not in draft.relations:
                draft.relations.append(relation)
        if denied:
            draft.change(place, absent=True)


def _leads_to_thing(draft: Draft, child: Any) -> bool:
    objects = [grand for grand in child.children if grand.dep_ == "pobj"]
    named = any(grand.i in draft.places or grand.pos_ in (*NOUNS, "PRON") for grand in objects)
    return child.dep_ in ("prep", "agent") and named


def _verb_span(draft: Draft, verb: Any) -> Span:
    particle = next((child for child in verb.children if child.dep_ == "prt" and child.i == verb.i + 1), verb)
    return draft.span(verb, particle)
