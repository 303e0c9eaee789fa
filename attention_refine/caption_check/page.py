"""The page of a caption check: picture, prompt, caption and answers; `templates/caption_check.html` lays it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward.pages.pictures import EmbeddedPicture, embed_picture
from reward.pages.rendering import render

Record = Mapping[str, Any]

_PICTURE_SIDE = 320  # pixels
_NAMES = {
    "prompt_yes": ("P(yes), whole prompt", "is the prompt as a whole answered yes?"),
    "questions_yes": ("P(yes), its facts", "mean over its questions; one that needs a fact answered no counts 0"),
    "caption_coverage": ("covered by the caption", "share of the prompt's facts in a caption written without it"),
    "reward": ("the trained reward", "of the same pictures"),
}
_SIDE_NAMES = {"base": "base", "lora": "LoRA"}


@dataclass(frozen=True)
class Card:
    """One measure's means; `values` as summary.json has them."""

    name: str
    meaning: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class FactRow:
    """One line of a picture's table.

    Attributes:
        text: the fact, question or prompt.
        yes: P(yes), 0 to 1; None: there is no question for it.
        coverage: of the caption: a share, or whether it covers this fact; None: there is no fact for it.
        style: "chosen" for the whole prompt, "control" for another picture's, empty for a fact.
    """

    text: str
    yes: float | None
    coverage: float | bool | None
    style: str = ""

    @property
    def percent(self) -> int:
        """Length of the bar."""
        return round(100 * min(max(self.yes or 0.0, 0.0), 1.0))


@dataclass(frozen=True)
class Side:
    """One picture with what was said about it; `label` and `reward` for pictures of a run."""

    label: str | None
    reward: float | None
    name: str
    picture: EmbeddedPicture | None
    caption: str
    rows: list[FactRow]


@dataclass(frozen=True)
class Item:
    """A prompt with its picture, or with those of base and LoRA."""

    prompt: str
    sides: list[Side]


def page_html(records: Sequence[Record], summary: Mapping[str, Any], *, title: str, limit: int) -> str:
    """The page: means at the top, then the pictures with the lowest P(yes) first.

    Args:
        records: as in checks.jsonl.
        summary: as in summary.json.
        title: of the page.
        limit: pictures shown; base and LoRA of one prompt count once.
    """
    groups = _groups(records)
    return render(
        "attention_refine/caption_check/templates/caption_check.html",
        title=title,
        pictures=summary["pictures"],
        unreadable=summary.get("unreadable") or 0,
        has_control=_has_control(summary),
        cards=[Card(*_NAMES[name], summary[name]) for name in _NAMES if name in summary],
        items=[Item(group[0]["prompt"], [_side(record) for record in group]) for group in groups[: max(0, limit)]],
        count=len(groups),
    )


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    """A picture alone, or base and LoRA of a run's example; the worst of the last one first."""
    groups: dict[Any, list[Record]] = {}
    for place, record in enumerate(records):
        pair = Path(record["path"]).name.partition("_")[2] if record.get("side") else place
        groups.setdefault(pair, []).append(record)
    return sorted(groups.values(), key=lambda group: group[-1]["own"]["prompt_yes"])


def _has_control(summary: Mapping[str, Any]) -> bool:
    return any(isinstance(values, Mapping) and values.get("control") is not None for values in summary.values())


def _side(record: Record) -> Side:
    path, side = Path(record["path"]), record.get("side")
    label = _SIDE_NAMES.get(side, side) if side else None
    picture = embed_picture(record.get("stored") or path, _PICTURE_SIDE)
    return Side(label, record.get("reward"), path.name, picture, record["caption"], _rows(record))


def _rows(record: Record) -> list[FactRow]:
    own, control = record["own"], record["control"]
    covers = [fact["is_covered"] for fact in own["facts"]]
    # by rule there is one question a fact, in the same order, and those for "exactly one" behind them; a user's own
    # questions stand for themselves
    ruled, more = own["answers"][: len(covers)], own["answers"][len(covers) :]
    aligned = [fact["kind"] for fact in own["facts"]] == [answer["kind"] for answer in ruled]
    aligned = aligned and all("exactly one " in answer["question"] for answer in more)
    rows = [FactRow("the whole prompt", own["prompt_yes"], own["caption_coverage"], "chosen")]
    for place, answer in enumerate(own["answers"]):
        paired = aligned and place < len(covers)
        text = own["facts"][place]["text"] if paired else answer["question"]
        rows.append(FactRow(text, answer["yes"], covers[place] if paired else None))
    if not aligned:
        rows += [FactRow(fact["text"], None, fact["is_covered"]) for fact in own["facts"]]
    if control:
        text = f"control: {control['prompt']}"
        rows.append(FactRow(text, control["prompt_yes"], control["caption_coverage"], "control"))
    return rows
