"""Who is meant: the things that a noun, a pronoun or a verb's subject stands for, and a verb in a fact's words."""

from typing import Any

from reward.language.english import vocabulary as v
from reward.language.english.draft import Draft
from reward.language.english.nouns import NOUNS, lemma

VERBS = ("VERB", "AUX")
_SUBJECTS = ("nsubj", "nsubjpass", "expl", "csubj")
_RELATIVE = frozenset("that which who whom".split())
_WORN = frozenset("with in wearing having".split())
_BEINGS = v.PEOPLE | v.ANIMALS
_DEEPEST = 12  # steps up a parse that is at odds with itself


def subjects_of(draft: Draft, token: Any, depth: int = 0) -> list[int]:
    """Places of the things that a verb, or an adjective behind one, speaks of."""
    if depth > _DEEPEST:
        return []
    for child in token.children:
        if child.dep_ == "expl":
            named = [other for other in token.children if other.dep_ in ("attr", "dobj")]
            return [place for other in named for place in noun_places(draft, other)]
        if child.dep_ in _SUBJECTS:
            if child.lower_ in _RELATIVE and token.dep_ in ("relcl", "acl"):
                return noun_places(draft, token.head, expand=False)
            if child.pos_ == "PRON" and child.i not in draft.places:
                return antecedents(draft, child)
            return noun_places(draft, child)
    head = token.head
    if head.i == token.i:
        before = [place for i, place in draft.places.items() if token.sent.start <= i < token.i]
        return before[-1:]
    behind_noun = token.dep_ in ("acl", "relcl", "amod", "appos", "advcl", "prep", "dep")
    if head.pos_ in (*NOUNS, "PRON") and behind_noun:
        return _bearer(draft, head, token)
    if head.dep_ == "prep" and token.dep_ in ("pcomp", "pobj"):
        return subjects_of(draft, head.head, depth + 1)
    if head.pos_ in (*VERBS, "ADJ", "ADP"):
        return subjects_of(draft, head, depth + 1)
    return noun_places(draft, head, expand=False)


def _bearer(draft: Draft, head: Any, verb: Any) -> list[int]:
    """Who does it: in "a man with a hat riding a horse" not the hat, in "on a bed wearing glasses" not the bed."""
    outer = head
    if verb.tag_ != "VBG" or verb.lemma_.lower() not in v.DONE_BY_BEINGS:
        return noun_places(draft, head, expand=False)
    for _ in range(_DEEPEST):
        if lemma(outer) in _BEINGS and outer.i in draft.places:
            return [draft.places[outer.i]]
        above = outer.head
        if outer.dep_ == "conj":
            outer = above
        elif outer.dep_ == "pobj" or (outer.dep_ == "dobj" and above.lower_ in _WORN):
            outer = above.head
        else:
            break
        if outer.pos_ in VERBS:
            found = subjects_of(draft, outer, _DEEPEST // 2)
            if found and draft.things[found[0]].noun in _BEINGS:
                return found
    return noun_places(draft, head, expand=False)


def antecedents(draft: Draft, pronoun: Any) -> list[int]:
    """Whom a pronoun means: the last thing before it that it fits, subjects first."""
    before = [(i, place) for i, place in draft.places.items() if i < pronoun.i and not draft.things[place].absent]
    word = pronoun.lower_

    def fits(place: int) -> bool:
        thing = draft.things[place]
        several = thing.is_plural or (thing.number or 1) > 1
        if word in ("he", "she", "him", "her"):
            return thing.noun in _BEINGS
        if word in ("they", "them"):
            return several or thing.noun in _BEINGS
        return word == "it" and not several and thing.noun not in v.PEOPLE

    behind = pronoun.head.head.i if pronoun.dep_ == "pobj" else -1  # "a dog behind him": not the dog
    good = [(i, place) for i, place in before if fits(place) and i != behind]
    if word in ("he", "she", "him", "her"):
        good = [(i, place) for i, place in good if draft.things[place].noun in v.PEOPLE] or good
    subjects = [place for i, place in good if draft.doc[i].dep_ in ("nsubj", "nsubjpass", "ROOT", "attr")]
    return subjects[-1:] or [place for _, place in good][-1:]


def noun_places(draft: Draft, token: Any, expand: bool = True, depth: int = 0) -> list[int]:
    """The things that a noun stands for: its own, what it is a group or a picture of, those joined by "and"."""
    found: list[int] = []
    for each in [token, *conjuncts(token)] if expand else [token]:
        if each.i in draft.places:
            found.append(draft.places[each.i])
        elif each.pos_ == "PRON":
            found += antecedents(draft, each)
        elif depth < _DEEPEST:
            of = [child for child in each.children if child.dep_ == "prep" and child.lower_ == "of"]
            nouns = [noun for child in of for noun in child.children if noun.dep_ == "pobj"]
            found += [place for noun in nouns for place in noun_places(draft, noun, depth=depth + 1)]
    return list(dict.fromkeys(found))


def conjuncts(token: Any) -> list[Any]:
    """What "and" or a comma joins to a word, verbs aside."""
    found, waiting = [], [token]
    while waiting:  # not by recursion: a list of things may be long
        word = waiting.pop()
        children = [c for c in word.children if c.dep_ == "conj" and c.pos_ not in VERBS and _held_by(c) is None]
        found += children
        waiting += children
        following = word.right_edge.i + 2
        if following < len(word.doc) and word.nbor(following - 1 - word.i).lower_ in ("and", "or", ","):
            held = [c for c in word.doc[following : following + 4] if c.dep_ == "conj" and _held_by(c) == word]
            found += held
            waiting += held
    return found


def _held_by(noun: Any) -> Any | None:
    """The sword of "a knight holding a sword and a shield", where the parser joins shield and knight."""
    being = noun.head
    if noun.dep_ == "conj" and noun.pos_ in NOUNS and being.pos_ == "VERB":  # joined to "holding"
        return next((c for c in reversed(list(being.children)) if c.dep_ == "dobj" and c.i < noun.i), None)
    if noun.dep_ != "conj" or lemma(being) not in _BEINGS or lemma(noun) in _BEINGS:
        return None
    for word in reversed(noun.doc[being.i + 1 : noun.i]):
        carried = word.dep_ in ("pobj", "dobj") and word.pos_ in NOUNS and lemma(word) not in _BEINGS
        if carried and (word.head.lower_ in _WORN or word.head.lemma_.lower() in ("hold", "wear", "carry", "have")):
            return word
    return None


def verb_words(verb: Any) -> str:
    """A verb as an attribute of its subject: "holds" -> "holding"; "" for having."""
    base = lemma(verb)
    if base in ("have", "be", "get", "contain"):
        return ""
    # "arms bent at the elbow": a fragment's participle is taken for a past tense
    has_object = any(child.dep_ == "dobj" for child in verb.children)
    perfect = any(child.dep_ == "aux" and lemma(child) == "have" for child in verb.children)
    participle = verb.tag_ == "VBG" or (verb.tag_ in ("VBN", "VBD") and not has_object and not perfect)
    particle = next((f" {child.lower_}" for child in verb.children if child.dep_ == "prt"), "")
    return (verb.lower_ if participle else v.ing_form(base)) + particle


def with_degree(token: Any) -> list[Any]:
    """A word with what grades it: "very far apart"."""
    grading = [child for child in token.children if child.dep_ in ("advmod", "npadvmod", "amod", "nummod")]
    return [token, *(word for child in grading for word in child.subtree)]


def negation(token: Any) -> Any | None:
    """The word that denies a verb or adjective, if any: "not", "never", "n't"."""
    return next((c for c in token.children if c.dep_ == "neg" or c.lower_ in ("not", "never", "n't")), None)
