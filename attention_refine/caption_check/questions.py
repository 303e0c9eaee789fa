"""Yes-or-no questions about a prompt, made from its facts, and what their answers come to."""

from collections.abc import Sequence
from dataclasses import dataclass

from attention_refine.caption_check.facts import Fact, prompt_facts
from reward.language.parts import Thing
from reward.language.reading import read_prompt

Questions = tuple["Question", ...]

_PLACE = "{}"
_DEFINITE = frozenset("the this that these those his her its their my your our".split())


@dataclass(frozen=True)
class Question:
    """A question with its right answer.

    Attributes:
        text: as it is asked.
        kind: of the fact it asks for: ``"thing"``, ``"attribute"``, ``"number"``, ``"relation"``, ``"text"``, or a
            file's own word.
        depends_on: places, among the prompt's questions, of those that must be answered right before.
        is_yes: whether yes is the right answer: not for "Is there a pizza with cheese?" of "a pizza without cheese".
    """

    text: str
    kind: str = ""
    depends_on: tuple[int, ...] = ()
    is_yes: bool = True

    def right(self, yes: float) -> float:
        """Probability of the right answer where yes has probability `yes`."""
        return yes if self.is_yes else 1 - yes


def make_questions(prompt: str, exactly_one: bool = False) -> Questions:
    """One question a fact of an English prompt; none where it names nothing.

    Args:
        exactly_one: read "a ring" as one ring and no more, and ask for that too. In English "a" need not say so; the
            prompts of a benchmark with counts mostly do.

    Example:
        >>> [question.text for question in make_questions("two red rings")]
        ['Is there a ring in the picture?', 'Is there a red ring in the picture?', \
'Are there exactly two red rings in the picture?']
    """
    facts = prompt_facts(prompt)
    made = [Question(_about(fact), fact.kind, fact.depends_on, fact.holds) for fact in facts]
    things = read_prompt(prompt).things if exactly_one else ()
    for place, thing in enumerate(things):
        # "a ring left of a red ring" shows two rings
        others = (*things[:place], *things[place + 1 :])
        if thing.number == 1 and not thing.absent and not any(thing.is_shown_by(other) for other in others):
            parents = tuple(i for i, fact in enumerate(facts) if _states(fact, thing))
            phrase = thing.phrase().partition(" ")[2]  # without its article
            made.append(Question(f"Is there exactly one {phrase} in the picture?", "number", parents))
    return tuple(made)


def ask(wording: str, phrase: str) -> str:
    """The wording with the phrase in its place.

    Raises:
        ValueError: the wording has no place for it.
    """
    if _PLACE not in wording:
        raise ValueError(f"Expected a question with {{}} in the place of what is asked for, got {wording!r}.")
    # not str.format: prompts and wordings may hold braces
    return wording.replace(_PLACE, phrase.strip().rstrip(".?! "), 1)


def share_of_yes(questions: Sequence[Question], yes: Sequence[float]) -> float:
    """Mean of P(right answer) over the questions, 0 for one that depends on a question answered wrong (P < 1/2).

    Args:
        questions: of one prompt.
        yes: P(yes) of each; the right answer is yes but for what the prompt denies.

    The score of the Davidsonian Scene Graph (DSG, Cho et al., ICLR 2024) with probabilities in place of answers: a
    picture without a car shows no red car, whatever is answered. 0 to 1; 0 for no questions.

    Example:
        >>> share_of_yes([Question("a ring?"), Question("a red ring?", "", (0,))], [0.25, 1.0])
        0.125
    """
    stands: list[bool] = []
    total = 0.0
    for question, probability in zip(questions, yes, strict=True):
        counts = all(stands[parent] for parent in question.depends_on)
        right = question.right(probability)
        stands.append(counts and right >= 0.5)
        total += right if counts else 0.0
    return total / len(questions) if questions else 0.0


def _states(fact: Fact, thing: Thing) -> bool:
    return fact.kind in ("thing", "attribute") and fact.thing.is_shown_by(thing) and fact.thing.number == 1


def _about(fact: Fact) -> str:
    if fact.kind == "text":
        return f"Can you see {fact.text} in the picture?"
    if fact.thing.determiner in _DEFINITE or "’s" in fact.thing.determiner or "'s" in fact.thing.determiner:
        return f"Can you see {fact.text} in the picture?"
    if fact.text[:1].isupper():
        # "is there the king" and "is there Barack Obama" are no English
        return f"Can you see {fact.text} in the picture?"
    several = fact.kind in ("number", "relation") and fact.thing.number not in (None, 1)
    return f"{'Are' if several or fact.thing.is_plural else 'Is'} there {fact.text} in the picture?"
