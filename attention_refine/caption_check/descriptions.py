"""A prompt or a caption -> what it says is there: things with their attributes and numbers, and how they stand.

From the pieces of `reward.language.phrases`, by closed classes of English words: there is no parser, and no list of
what a text may be about. What it cannot take apart stays one thing with many attributes.
"""

from dataclasses import dataclass, replace

from reward.language.phrases import DETERMINERS, MEDIA, NUMBERS, Piece, split_prompt
from reward.language.word_swaps import articles_agree, singular_of, usual_word

_ONE = frozenset("a an another".split())
_COPULAS = frozenset("is are was were being".split())
_PRONOUNS = frozenset("it he she they them him who which that there everything something nothing".split())
# how a picture is made, not what it shows
_STYLE = MEDIA | frozenset(
    "8k 4k hd uhd hdr artstation bokeh composition detail details detailed focus lighting masterpiece octane scene"
    " photorealistic photography quality realistic resolution style view".split()
)
_DEGREES = frozenset("very quite too so really extremely".split())
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
        noun: its head, singular, lower case.
        before: attributes before the noun, lower case.
        after: attributes after it: "of fruit", "running".
        number: 1 for "a" too; None where none is said.
        determiner: of the text, where it is not "a" or a number: "the", "his".
        written: the noun as the text has it.
    """

    noun: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    number: int | None = None
    determiner: str = ""
    written: str = ""

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
        return self.noun == other.noun and self.attributes <= other.attributes

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
            else:
                head = [NUMBERS[self.number - 1] if 1 <= self.number <= len(NUMBERS) else str(self.number)]
        return articles_agree([*head, *self.before, noun, *self.after])


@dataclass(frozen=True)
class Relation:
    """How two things of a description stand: their places in it, and the words between them."""

    subject: int
    words: str
    object: int

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
class Description:
    """The things that a text names, in its order, and their relations."""

    things: tuple[Thing, ...]
    relations: tuple[Relation, ...]


def read_description(text: str) -> Description:
    """What an English text says is there.

    "a photo of" and words about a picture's making are left out. A relation joins the nearest things before and after
    it; one with nothing after it, "a dog running", is an attribute, and so is "red" in "the car is red".

    Example:
        >>> description = read_description("a photo of two cats left of a big red car")
        >>> [(thing.noun, thing.number, thing.before) for thing in description.things]
        [('cat', 2, ()), ('car', 1, ('big', 'red'))]
        >>> description.relations
        (Relation(subject=0, words='left of', object=1),)
    """
    things: list[Thing] = []
    relations: list[Relation] = []
    waiting: tuple[int, str] | None = None  # a relation that has its subject and looks for its object
    number: int | None = None
    link = ""
    for piece in split_prompt(text):
        words = piece.text.lower()
        if piece.kind == "number":
            number = int(words) if words.isdecimal() else NUMBERS.index(words) + 1
        elif piece.kind == "relation" or words == "with":
            _settle(things, waiting)
            waiting = (_subject(words, len(things) - 1, relations), words) if things else None
        elif piece.kind == "link":
            if words in _COPULAS or not waiting or words not in DETERMINERS:
                _settle(things, waiting)
                waiting = None
            link = words
        else:
            thing = _thing(piece, number)
            if thing and things and link in _COPULAS and _is_bare(piece, number):
                things[-1] = replace(things[-1], before=(*things[-1].before, words))
                thing = None
            if thing:
                things.append(thing)
                if waiting:
                    relations.append(Relation(waiting[0], waiting[1], len(things) - 1))
            waiting = waiting if thing is None and waiting and piece.text.lower() in _PRONOUNS else None
            number, link = None, ""
    _settle(things, waiting)
    return Description(tuple(things), tuple(relations))


def _subject(words: str, nearest: int, relations: list[Relation]) -> int:
    """Who does it: in "a man with a hat riding a horse" not the hat."""
    if words.split()[0].endswith("ing"):
        for relation in reversed(relations):
            if relation.object == nearest and relation.words == "with":
                nearest = relation.subject
    return nearest


def _settle(things: list[Thing], waiting: tuple[int, str] | None) -> None:
    """A relation whose object never came is what its subject does."""
    if waiting and waiting[1] not in _MEANINGS and waiting[1] != "with":
        subject = things[waiting[0]]
        things[waiting[0]] = replace(subject, after=(*subject.after, waiting[1]))


def _is_bare(piece: Piece, number: int | None) -> bool:
    return number is None and piece.text.split()[0].lower() not in DETERMINERS


def _thing(piece: Piece, number: int | None) -> Thing | None:
    """What a piece names; None for a pronoun and for words about a picture's making."""
    words = piece.text.split()
    tail: tuple[str, ...] = ()
    if "of" in words[1:]:
        cut = words.index("of", 1)
        words, tail = words[:cut], (" ".join(words[cut:]).lower(),)
    determiner = ""
    while len(words) > 1 and words[0].lower() in DETERMINERS:
        determiner = words.pop(0).lower()
    written = words[-1]
    if written.lower() in _STYLE | _PRONOUNS | DETERMINERS:
        return None
    if len(words) > 1 and all(word[0].isupper() for word in words):  # a name
        words = [" ".join(words)]
        written = words[0]
    before: list[str] = []
    for word in words[:-1]:
        word = usual_word(word.lower())
        if before and (before[-1] in _DEGREES or before[-1].endswith("ly")):
            word = f"{before.pop()} {word}"
        before.append(word)
    if determiner in _ONE and number is None:
        number = 1
    determiner = "" if number is not None else determiner
    return Thing(usual_word(singular_of(written.lower())), tuple(before), tail, number, determiner, written)
