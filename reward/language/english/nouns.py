"""Which nouns of a parse name things of the picture, and what belongs to each noun before it.

A small parser tags words well and joins the fragments that prompts are made of badly. So a noun's own words are those
beside it; the tree only says where two nouns meet and what a noun does in its sentence.
"""

import re
from typing import Any

from reward.language.english import vocabulary as v
from reward.language.english.marking import STAND_IN
from reward.language.words import singular_of

NOUNS = ("NOUN", "PROPN")
_NAME = re.compile(r"[^\W\d_]{2}|[^\W\d_]$")
_INSIDE = ("compound", "nmod", "amod", "npadvmod", "nummod", "quantmod")
_ARTISTS = frozenset("paint draw make create design inspire illustrate direct render photograph".split())


def lemma(token: Any) -> str:
    """The singular of a noun, the base form of a verb, lower case."""
    return singular_of(token.lower_) if token.pos_ in NOUNS or is_noun(token) else token.lemma_.lower()


def is_noun(token: Any) -> bool:
    """Whether a word is a noun where it stands, also where the tagger took it for a verb."""
    if token.pos_ in NOUNS:
        return bool(_NAME.match(token.text))
    if token.lower_ in v.INDEFINITE:
        return True
    if token.lower_ == "shot" and token.i + 1 < len(token.doc) and token.nbor().lower_ == "of":  # "studio shot of"
        return True
    if token.pos_ == "VERB" and token.lower_ in v.PLACES and token.dep_ != "ROOT":  # "flared out to side"
        return True
    if token.pos_ != "VERB" or token.tag_ not in ("VB", "VBP", "VBZ") or token.lemma_.lower() in v.COMMANDS:
        return False
    if token.dep_ == "pobj":
        return True
    # "monitor on table", "knees bent": nobody is told to do anything, so a bare verb before all else is no verb
    begins = token.i == token.sent.start or token.nbor(-1).pos_ == "PUNCT" or token.nbor(-1).dep_ in ("amod", "det")
    return begins and not any(child.dep_ in ("nsubj", "nsubjpass", "aux", "dobj") for child in token.children)


def is_head(token: Any) -> bool:
    """Whether a noun is the last word of its phrase: "monitor" of "a computer monitor"."""
    if not is_noun(token) or token.text == STAND_IN:
        return False
    following = token.nbor() if token.i + 1 < len(token.doc) else None
    if token.dep_ not in _INSIDE or token.head.i < token.i:
        return True
    if following is None or following.pos_ == "PUNCT" and following.text != "-":
        return token.head.pos_ not in NOUNS
    if token.dep_ == "npadvmod":
        return token.head.dep_ not in ("amod", "acomp", "advmod", "nmod")
    return not (is_noun(following) or following.pos_ in ("ADJ", "VERB", "NUM", "PUNCT", "CCONJ", "PART", "ADP"))


def words_before(head: Any) -> list[Any]:
    """The tokens before a noun that belong to it, in order, without commas and "and"."""
    found: list[Any] = []
    at = head.i - 1
    start = head.sent.start
    while at >= start:
        token, right = head.doc[at], head.doc[at + 1]
        if token.pos_ in ("DET",) or token.tag_ == "PRP$":
            found.append(token)
            # "all the", "not a"
            if at > start and head.doc[at - 1].pos_ in ("DET", "ADV") and head.doc[at - 1].dep_ == "predet":
                found.append(head.doc[at - 1])
            break
        if token.text in ("'s", "'") and token.pos_ == "PART":
            break
        if not _belongs(token, right, head):
            break
        if token.pos_ not in ("PUNCT", "CCONJ"):
            found.append(token)
        at -= 1
    while found and found[-1].pos_ == "ADV" and found[-1].dep_ != "advmod":
        found.pop()
    return found[::-1]


def _belongs(token: Any, right: Any, head: Any) -> bool:
    if token.pos_ in ("ADJ", "NUM"):
        return token.dep_ not in ("acomp", "attr", "pobj", "prep") or token.head.i == head.i
    if token.pos_ in NOUNS:
        return token.dep_ in _INSIDE or (token.dep_ == "conj" and token.head.dep_ in _INSIDE)
    if token.pos_ == "ADV":
        return right.pos_ in ("ADJ", "VERB", "ADV", "NUM") and token.dep_ == "advmod" and token.head.i > token.i
    if token.pos_ == "VERB" and token.dep_ == "pcomp" and token.tag_ == "VBG":  # "with alternating stripes"
        return token.head.i == token.i - 1 and head.dep_ == "dobj" and head.head.i == token.i
    if token.pos_ == "VERB":
        return token.dep_ in ("amod", "compound", "nmod") and token.head.i > token.i
    if token.text == "-":
        return True
    if (token.pos_ == "CCONJ" or token.text == ",") and token.i > token.sent.start:
        left, describing = token.nbor(-1), ("ADJ", "VERB")
        joined = left.dep_ in ("amod", "conj", "compound", "nmod") and left.head.i <= head.i
        return joined and left.pos_ in describing and right.pos_ in (*describing, "ADV")
    return False


def is_style(token: Any, depth: int = 0) -> bool:
    """Whether a noun is how the picture is made: "oil painting", "8k", "in the style of Hokusai", "by Vermeer"."""
    word, above = lemma(token), token.head
    if word in v.MEDIA:
        if any(child.dep_ == "prep" and child.lower_ == "of" for child in token.children) and token.dep_ != "dobj":
            return token.dep_ != "pobj" or above.lower_ in ("in", "of", "by", "as")
        if token.dep_ == "pobj":
            known = any(child.dep_ == "det" and child.lower_ in ("the", "this") for child in token.children)
            return known or above.lower_ in ("in", "of", "from", "for", "as", "throughout", "by")
        says_where = any(
            child.dep_ == "acl" or (child.dep_ == "prep" and child.lower_ in ("on", "above", "near", "behind", "below"))
            for child in token.children
        )
        return token.dep_ != "dobj" and not says_where
    if word in v.STYLE:
        return token.dep_ not in ("dobj", "nsubj") or word not in ("canvas", "ink", "pencil")
    if token.lower_ == "field" and above.lower_ == "of" and above.head.lower_ == "depth":
        return True
    if token.dep_ == "pobj":
        by = above.head
        if above.lower_ in ("by", "of", "on") and by.lower_ in ("trending", "style", "styles"):
            return True
        if above.lower_ == "by":
            if by.pos_ == "VERB":
                return by.lemma_.lower() in _ARTISTS
            return not any(child.dep_ in ("det", "nummod", "poss") for child in token.children)
    # "by A and B"
    chained = token.dep_ in ("conj", "appos") and above.pos_ in NOUNS and token.pos_ == "PROPN"
    return chained and depth < 50 and lemma(above) not in v.MEDIA | v.STYLE and is_style(above, depth + 1)


def is_named_for_something_else(token: Any) -> bool:
    """What something looks like or is made of, what somebody plays or does, a colour: none of it is a thing there."""
    above = token.head
    plain = not any(child.dep_ in ("det", "poss", "nummod") for child in token.children)
    if token.dep_ == "pobj":
        if above.lower_ == "like" and above.head.lemma_ in ("look", "shape", "be", "seem"):
            return True
        if above.lower_ in ("of", "from") and above.head.lemma_ == "make" and plain and token.tag_ in ("NN", "NNP"):
            return True
    if token.lower_ in v.COLOURS and plain and token.dep_ in ("pobj", "dobj", "conj", "attr", "oprd"):
        return True
    if token.dep_ == "dobj" and above.pos_ == "VERB":
        return above.lemma_.lower() in v.ACTING or (above.lemma_.lower() == "play" and plain and token.tag_ == "NN")
    return False
