"""Comparison of base model and LoRA in the report: the cards at the top and the example pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward.pages.formatting import number
from reward.pages.pictures import EmbeddedPicture
from rl.report.pictures import embed

SIDES = {"base": "base", "lora": "LoRA"}

_NAMES = {"oracle": "share of facts that hold (oracle)", "reward": "reward"}
_EXAMPLE_SIDE = 384  # pixels


@dataclass(frozen=True)
class Card:
    """Means of one reward over the evaluation prompts. Every value except the name may be missing (None)."""

    name: str
    base: Any
    lora: Any
    gain: Any
    interval: Sequence[Any] | None


@dataclass(frozen=True)
class Side:
    """One picture of an example with its scores, (name, value)."""

    label: str
    picture: EmbeddedPicture | None
    scores: list[tuple[str, Any]]


@dataclass(frozen=True)
class Example:
    """One prompt and seed, sampled from the base model and with the LoRA."""

    prompt: str
    seed: str | None
    change: Any
    sides: list[Side]


def cards(summary: Mapping[str, Any]) -> list[Card]:
    """A card for each reward that was compared."""
    return [_card(name, summary) for name in _compared(summary)]


def headline_facts(summary: Mapping[str, Any]) -> list[str]:
    """Short facts on how the comparison was made, or that there was none."""
    facts = []
    if not _compared(summary):
        facts.append("Base and LoRA were not compared; the curves below are from training")
    if "n_prompts" in summary:
        facts.append(f"{number(summary['n_prompts'], 0)} held-out prompts, same seeds for base and LoRA")
    if "guidance_base" in summary and "guidance_lora" in summary:
        base, lora = scale(summary["guidance_base"]), scale(summary["guidance_lora"])
        facts.append(f"each at its own best guidance: base {base}, LoRA {lora}")
    if "epochs" in summary:
        facts.append(f"{number(summary['epochs'], 0)} epochs")
    if isinstance(summary.get("seconds"), (int, float)):
        facts.append(f"{number(summary['seconds'] / 60, 1)} minutes in total")
    return facts


def witness(pairs: Sequence[Mapping[str, Any]]) -> str:
    """The reward that sets the colours of the examples: the oracle if there is one."""
    return ((_compared(pairs[0]) if pairs else []) or ["reward"])[0]


def examples(run_dir: Path, pairs: Sequence[Mapping[str, Any]]) -> list[Example]:
    """The example pictures of evaluation.json."""
    return [_example(run_dir, pair) for pair in pairs]


def short_name(name: str) -> str:
    """A reward's name without its module: tinyworld.oracle:oracle_reward -> oracle_reward."""
    return name.rpartition(":")[2] or name


def scale(value: Any) -> str:
    """A guidance scale: 4.0, 1.5, 1.25."""
    text = number(value, 2)
    return text.removesuffix("0") if text.endswith("0") else text


def _card(name: str, summary: Mapping[str, Any]) -> Card:
    base, lora = summary.get(f"{name}_base"), summary.get(f"{name}_lora")
    interval = summary.get(f"{name}_gain_ci")
    known = interval if interval and None not in interval else None
    return Card(_NAMES.get(name, name), base, lora, _change(name, summary, summary.get(f"{name}_gain")), known)


def _compared(source: Mapping[str, Any]) -> list[str]:
    """Names with both NAME_base and NAME_lora: the oracle first, then the trained reward, then the rest."""
    names = [key.removesuffix("_lora") for key in source if key.endswith("_lora")]
    names = [name for name in names if f"{name}_base" in source and name != "guidance"]
    return sorted(names, key=lambda name: (name != "oracle", name != "reward"))


def _change(name: str, source: Mapping[str, Any], known: Any = None) -> Any:
    base, lora = source.get(f"{name}_base"), source.get(f"{name}_lora")
    if known is not None or base is None or lora is None:
        return known
    return lora - base


def _example(run_dir: Path, pair: Mapping[str, Any]) -> Example:
    sides = []
    for side, label in SIDES.items():
        scores = [(short_name(name), pair[f"{name}_{side}"]) for name in _compared(pair)]
        sides.append(Side(label, embed(run_dir, pair.get(side), _EXAMPLE_SIDE), scores))
    seed = str(pair["seed"]) if "seed" in pair else None
    return Example(str(pair.get("prompt", "")), seed, _change(witness([pair]), pair), sides)
