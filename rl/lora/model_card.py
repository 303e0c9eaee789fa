"""The model card (README.md) of an exported LoRA: what it is, how it was trained, how to load it, results, samples."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reward.files.plain_json import read_json
from reward.files.quoting import shortened
from reward.files.writing import write_text

_EXAMPLES = 4
_KINDS = {"adapter": "A LoRA for", "finetune": "A full pipeline with a LoRA merged in, based on"}


@dataclass(frozen=True)
class TrainingRecord:
    """How a LoRA was trained: the data for its file's header and its card.

    base_model, prompts, rewards: as published, without local folders. epochs, optimizer_steps: None if unknown.
    averaged: the weights are the moving average. run: the run folder; None for a checkpoint outside of one. final: the
    weights are the run's result, not a checkpoint's. pipeline_class: of the base model; None if it was not found.
    """

    base_model: str
    prompts: str
    rewards: list[str]
    rank: int
    alpha: float
    targets: list[str]
    epochs: int | None
    optimizer_steps: int | None
    averaged: bool
    run: Path | None
    final: bool
    pipeline_class: str | None = None

    @property
    def is_diffusion(self) -> bool:
        """Whether the base model is Stable Diffusion 1.x, 2.x or XL, as it is where nothing is known of it."""
        return self.pipeline_class in (None, "StableDiffusionPipeline", "StableDiffusionXLPipeline")

    @property
    def is_sdxl(self) -> bool:
        """Whether the base model is known to be Stable Diffusion XL."""
        return self.pipeline_class == "StableDiffusionXLPipeline"


def published_name(name: str) -> str:
    """The name of a model, prompts or reward without its local folders.

    Example:
        >>> published_name("hyperalign:/home/me/models/judge=0.5")
        'hyperalign:judge=0.5'
    """
    factory = re.match(r"[\w.]+:\w+@", name)
    start = factory.end() if factory else name.rfind(":") + 1
    kind, rest = name[:start], name[start:]
    path, equals, weight = rest.partition("=")
    if path.startswith(("/", "~", ".")) or (path and _is_there(path)):
        path = Path(path).resolve().name
    return f"{kind}{path}{equals}{weight}"


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # longer than a file name may be
        return False


def write_card(
    folder: Path, name: str, record: TrainingRecord, *, license: str, usage: str, library: str, relation: str
) -> Path:
    """Write `README.md` and the sample pictures that it shows; returns its path.

    Args:
        folder: folder of the export.
        name: title of the card.
        record: where the LoRA comes from.
        license: licence identifier of the hub.
        usage: Markdown that says how to load this format.
        library: "diffusers" or "peft".
        relation: relation to the base model in the hub's terms: "adapter" or "finetune".
    """
    family = ["stable-diffusion-xl" if record.is_sdxl else "stable-diffusion"] if record.is_diffusion else []
    metadata = {
        "license": license,
        "base_model": record.base_model,
        "base_model_relation": relation,
        "library_name": library,
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", *family, "lora", "reinforcement-learning", "hyperalign"],
    }
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---\n",
        f"# {name}\n",
        f"{_KINDS[relation]} `{record.base_model}`, fine-tuned with HyperAlign to increase the reward below. "
        f"Licence: `{license}`. The base model's terms of use apply too.\n",
        _table(["", ""], _training_rows(record)),
        f"## Use\n\n{usage.strip()}\n",
    ]
    results = _result_rows(record)
    if results:
        parts.append("## Result\n\nEvaluation at the end of training, with the same prompts and seeds. Base and LoRA "
                     f"are each at their own best guidance.\n\n{_table(['', 'base', 'with LoRA'], results)}")
    # Without results, the example pictures in the folder may come from an earlier, shorter run.
    pictures = (_examples(folder, record) if results else []) + _grids(folder, record)
    if pictures:
        parts.append("## Samples\n\n" + "\n".join(pictures))
    return write_text(folder / "README.md", "\n".join(parts))


def _training_rows(record: TrainingRecord) -> list[list[str]]:
    unknown = "not recorded"
    return [
        ["base model", f"`{record.base_model}`"],
        ["rewards", ", ".join(f"`{reward}`" for reward in record.rewards) or unknown],
        ["prompts", f"`{record.prompts}`" if record.prompts else unknown],
        ["epochs", unknown if record.epochs is None else str(record.epochs)],
        ["optimiser steps", unknown if record.optimizer_steps is None else str(record.optimizer_steps)],
        ["rank, alpha", f"{record.rank}, {record.alpha:g}"],
        ["layers", ", ".join(f"`{target}`" for target in record.targets)],
        ["weights", "moving average of training" if record.averaged else "last step of training"],
    ]


def _result_rows(record: TrainingRecord) -> list[list[str]]:
    summary = read_json(record.run / "summary.json") if record.run and record.final else {}
    pairs = [(key, key.removesuffix("_base")) for key in summary if key.endswith("_base")]
    rows = [(name, summary[key], summary.get(f"{name}_lora")) for key, name in pairs]
    rows = [(name, base, lora) for name, base, lora in rows if _is_figure(base) and _is_figure(lora)]
    return [[_cell(name), f"{base:.4g}", f"{lora:.4g}"] for name, base, lora in rows]


def _is_figure(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e300


def _examples(folder: Path, record: TrainingRecord) -> list[str]:
    """Pairs of the final evaluation: base and LoRA on the same prompt and seed."""
    if not (record.run and record.final):
        return []
    try:
        return _example_table(folder, record.run, read_json(record.run / "evaluation.json"))
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected {record.run / 'evaluation.json'} as a run writes it, got {shortened(repr(error))}. Evaluate "
            "the run again."
        ) from error


def _example_table(folder: Path, run: Path, evaluation: dict[str, Any]) -> list[str]:
    rows = []
    for example in evaluation.get("examples", [])[:_EXAMPLES]:
        pictures = [example["base"], example["lora"]]
        # The names in evaluation.json are used for reading and for writing. They must not point outside either folder.
        if all(_is_picture_of(run, picture) for picture in pictures):
            rows.append([_cell(example["prompt"]), *(_picture(folder, run, picture) for picture in pictures)])
    return [_table(["prompt", "base", "with LoRA"], rows)] if rows else []


def _is_picture_of(run: Path, name: str) -> bool:
    path = (run / name).resolve()
    inside = path.is_relative_to(run.resolve()) and ".." not in Path(name).parts and not Path(name).is_absolute()
    return inside and path.suffix == ".png" and path.is_file()


def _grids(folder: Path, record: TrainingRecord) -> list[str]:
    """The first and the last grid of training, up to the epoch of these weights."""
    found = {}
    for path in (record.run / "samples").glob("epoch_*.png") if record.run else []:
        number = re.fullmatch(r"epoch_(\d+)", path.stem)
        if number is None or not _is_picture_of(record.run, path.relative_to(record.run).as_posix()):
            continue
        if record.epochs is None or int(number[1]) <= record.epochs:
            found[int(number[1])] = path
    shown = sorted({min(found), max(found)}) if found else []
    return [
        f"Epoch {number}:\n\n{_picture(folder, record.run, found[number].relative_to(record.run).as_posix())}\n"
        for number in shown
    ]


def _picture(folder: Path, run: Path, name: str) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / name, folder / name)
    return f"![{Path(name).stem}]({name})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
