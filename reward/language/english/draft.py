"""A reading in the making: what the parts of the English reader write into, one after the other."""

from dataclasses import dataclass, field, replace
from typing import Any

from reward.language.english.marking import Word
from reward.language.parts import Relation, Span, Text, Thing


@dataclass
class Draft:
    """A reading in the making; `places` has the thing that each head stands for."""

    doc: Any
    words: tuple[Word, ...]
    things: list[Thing] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    style: list[str] = field(default_factory=list)
    style_spans: list[Span] = field(default_factory=list)
    denials: list[Span] = field(default_factory=list)

    def span(self, first: Any, last: Any) -> Span:
        """From the first token's first character to the last token's last."""
        return self.words[first.i].span[0], self.words[last.i].span[1]

    def said(self, tokens: list[Any]) -> str:
        """Tokens as the prompt has them, in its order, lower case."""
        text = " ".join(self.words[token.i].text.lower() for token in sorted(tokens, key=lambda token: token.i))
        return text.replace(" - ", "-").replace(" '", "'")

    def change(self, place: int, **changes: Any) -> None:
        """Replace fields of a thing."""
        self.things[place] = replace(self.things[place], **changes)

    def add_attribute(self, place: int, text: str, span: Span, before: bool, denied: bool = False) -> None:
        """A predicate that says what a thing is like."""
        thing = self.things[place]
        if not text or text in thing.before + thing.after + thing.denied:
            return
        spans = (*thing.attribute_spans, span)
        if denied:
            self.change(place, denied=(*thing.denied, text))
        elif before:
            self.change(place, before=(*thing.before, text), attribute_spans=spans)
        else:
            self.change(place, after=(*thing.after, text), attribute_spans=spans)
