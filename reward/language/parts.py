"""What a prompt says, as data: things with attributes and numbers, relations, quoted texts, style; some of it denied.

Whoever reads English (`reward.language.english`) or the tiny world's grammar (`reward.language.small_grammar`) fills
these in; facts, questions, phrases and swaps are made from them.
"""

from dataclasses import dataclass, field, replace

from reward.language.words import NUMBERS, articles_agree, is_irregular_plural, singular_of, usual_word

Span = tuple[int, int]
NO_SPAN: Span = (0, 0)

# what a relation's words mean; a mark for the same with the two things exchanged
_BACK = "~"
_MEANINGS = {
    "left of": ("left of",), "to the left of": ("left of",), "on the left of": ("left of",),
    "right of": ("~left of",), "to the right of": ("~left of",), "on the right of": ("~left of",),
    "above": ("above",), "over": ("above",), "on": ("on",), "on top of": ("on",), "onto": ("on",),
    "below": ("~above", "~on"), "under": ("~above", "~on"), "underneath": ("~above", "~on"),
    "beneath": ("~above", "~on"), "in": ("in",), "inside": ("in",), "inside of": ("in",), "into": ("in",),
    "in front of": ("front",), "behind": ("~front",), "next to": ("near", "~near"), "beside": ("near", "~near"),
    "besides": ("near", "~near"), "near": ("near", "~near"), "close to": ("near", "~near"), "by": ("near", "~near"),
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """What a noun phrase says.

    Attributes:
        noun: its head, singular, lower case; a name is one noun.
        before: attributes before the noun, lower case.
        after: attributes after it: "of fruit", "running", "bent inwards".
        number: 1 for "a" too; None where none is said.
        determiner: of the text, where it is not "a" or a number: "the", "his".
        written: the noun as the text has it.
        kind: nouns before the head that make it another thing: ("computer",) of "a computer monitor".
        denied: attributes that the text says it does not have: "a car that is not red".
        is_place: a part of the picture itself: it is always there, and only what the text says of it is a fact.
        absent: whether the text says that there is none: "no people", "without a hat".
        span: characters of the text from its first attribute or noun to its noun.
        number_span: characters of its number.
        attribute_spans: characters of attributes that stand apart from it: "red" of "the car is red".
    """

    noun: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    number: int | None = None
    determiner: str = ""
    written: str = ""
    kind: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    absent: bool = False
    is_place: bool = False
    span: Span = field(default=NO_SPAN, compare=False)
    number_span: Span = field(default=NO_SPAN, compare=False)
    attribute_spans: tuple[Span, ...] = field(default=(), compare=False)

    @property
    def attributes(self) -> frozenset[str]:
        """Those before the noun and those after it."""
        return frozenset(self.before + self.after)

    @property
    def is_plural(self) -> bool:
        """Whether it is several without a number: "dogs"."""
        return self.number is None and singular_of(self.written.lower()) != self.written.lower()

    def only(self, *attributes: str) -> "Thing":
        """The same thing with these of its attributes alone."""
        before, after = (tuple(a for a in side if a in attributes) for side in (self.before, self.after))
        return replace(self, before=before, after=after)

    def is_shown_by(self, other: "Thing") -> bool:
        """Whether another thing is one of these: the same noun, all attributes and perhaps more."""
        return (
            self.noun == other.noun
            and set(self.kind) <= set(other.kind)
            and set(map(usual_word, self.attributes)) <= set(map(usual_word, other.attributes))
            and not other.absent
        )

    def phrase(self, number: bool = False) -> str:
        """In words: "a red ring"; with `number` "two red rings" where there are two.

        Example:
            >>> Thing("ring", ("red",), number=2, written="rings").phrase(number=True)
            'two red rings'
        """
        head, noun = [self.determiner] if self.determiner else [], self.written or self.noun
        if self.number is not None:
            head = ["a"]
            if not number or self.number == 1:
                noun = self.noun if self.number != 1 else noun
                if self.number != 1 and is_irregular_plural(self.written.lower()):
                    head, noun = [], self.written  # "people", not "a person"
            else:
                head = [NUMBERS[self.number - 1] if 1 <= self.number <= len(NUMBERS) else str(self.number)]
        return articles_agree([*head, *self.before, *self.kind, noun, *self.after])


@dataclass(frozen=True)
class Relation:
    """How two things stand or what one does to the other: their places, and the words between them.

    Attributes:
        subject, object: places among the reading's things.
        words: "left of", "holding", "sitting on".
        denied: whether the text says that it is not so: "a man not wearing a hat", "a pizza without cheese".
        span: characters of the words in the text.
    """

    subject: int
    words: str
    object: int
    denied: bool = False
    span: Span = field(default=NO_SPAN, compare=False)

    def meanings(self) -> frozenset[tuple[str, int, int]]:
        """(meaning, subject, object): equal for "a left of b" and "b right of a".

        Example:
            >>> Relation(0, "left of", 1).meanings() == Relation(1, "right of", 0).meanings()
            True
        """
        found = set()
        for meaning in _MEANINGS.get(self.words, (self.words,)):
            ends = (self.object, self.subject) if meaning.startswith(_BACK) else (self.subject, self.object)
            found.add((meaning.removeprefix(_BACK), *ends))
        return frozenset(found)


@dataclass(frozen=True)
class Text:
    """Words that the picture shows as writing: place of the thing that bears them, None where none is said."""

    words: str
    bearer: int | None = None
    span: Span = field(default=NO_SPAN, compare=False)


@dataclass(frozen=True)
class PromptReading:
    """Everything that one reader found in a prompt, each list in the prompt's order.

    Attributes:
        things: with attributes and numbers; some of them absent.
        relations: between things, by their places.
        texts: quoted words.
        style: how the picture is made: "oil painting", "8k", "by Vermeer".
        denial_spans: characters of what denies: from "without" or "no" to the end of what is denied.
        style_spans: characters of the words of `style`.
    """

    things: tuple[Thing, ...] = ()
    relations: tuple[Relation, ...] = ()
    texts: tuple[Text, ...] = ()
    style: tuple[str, ...] = ()
    denial_spans: tuple[Span, ...] = field(default=(), compare=False)
    style_spans: tuple[Span, ...] = field(default=(), compare=False)


def has_meaning(words: str) -> bool:
    """Whether a relation's words are a preposition that says how two things stand."""
    return words in _MEANINGS
