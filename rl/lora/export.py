"""Export a run's LoRA: `hyperalign-export-lora RUN --format diffusers|peft|kohya|fused --license ID --output DIR`.

format     files                                                               loaded by
diffusers  pytorch_lora_weights.safetensors, rank and alpha in its header      pipeline.load_lora_weights
peft       adapter_model.safetensors and adapter_config.json                   PeftModel.from_pretrained
kohya      NAME.safetensors, with an alpha for every layer                     ComfyUI, A1111, diffusers
fused      the full pipeline with the LoRA merged into it                      DiffusionPipeline.from_pretrained

Every export has a model card, README.md. Weights are safetensors, never pickles. The folder is written atomically.
"""

import dataclasses
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward.files.plain_json import read_json
from reward.files.quoting import quoted
from reward.files.writing import scratch_beside
from rl.lora.model_card import TrainingRecord, published_name, write_card

if TYPE_CHECKING:
    import torch

FORMATS = ("diffusers", "peft", "kohya", "fused")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclasses.dataclass(frozen=True)
class TrainedLora:
    """A LoRA read from a run, with PEFT's config and a record of its training.

    weights: under PEFT's names (`down_blocks.0. ... .to_q.lora_A.weight`). base_folder: folder or hub id that the base
    model loads from. denoiser: name of the module in the pipeline.
    """

    weights: dict[str, "torch.Tensor"]
    config: dict[str, Any]
    record: TrainingRecord
    base_folder: str
    denoiser: str


def export_lora(
    run: Path,
    format: str,
    output: Path,
    *,
    license: str,
    base_model: str | None = None,
    push_to_hub: str | None = None,
    resolve: Callable[[str], str] = str,
) -> Path:
    """Write the LoRA of `run` to the folder `output`; returns it.

    Args:
        run: checkpoint folder, or run folder. Of a run folder the result is exported, or the newest checkpoint if the
            run is not finished.
        format: one of `FORMATS`.
        output: new or empty folder.
        license: licence identifier as the hub writes it, e.g. "creativeml-openrail-m".
        base_model: hub id of the base model; None: the `model` of the run's config.
        push_to_hub: hub repository to upload to; None: no upload.
        resolve: turns a model name of the config into a path.

    Raises:
        FileNotFoundError: `run` holds no LoRA or no config.
        FileExistsError: `output` holds files.
        ValueError: unknown format, malformed licence or repository, or a LoRA that does not fit its base model.

    Example:
        >>> export_lora(Path("runs/demo"), "kohya", Path("exports/demo"), license="apache-2.0")
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}.")
    if not _LICENSE.fullmatch(license):
        raise ValueError(
            "license: expected a hub identifier in lower case, e.g. creativeml-openrail-m, apache-2.0 or other, got "
            f"{license!r}."
        )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"output: expected a new or empty folder, got {output}, which has files. Choose another.")
    lora = read_lora(run, base_model=base_model, resolve=resolve)
    if push_to_hub:
        _check_push(push_to_hub, lora.record.base_model)
    output = output.resolve()
    name = output.name
    scratch = scratch_beside(output)
    scratch.mkdir(parents=True)
    try:
        _WRITERS[format](lora, scratch, name, header(lora, license))
        library = "peft" if format == "peft" else "diffusers"
        relation = "finetune" if format == "fused" else "adapter"
        usage = _usage(format, push_to_hub or name, lora, name)
        write_card(scratch, name, lora.record, license=license, usage=usage, library=library, relation=relation)
        os.replace(scratch, output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if push_to_hub:
        _push(output, push_to_hub)
    return output


def read_lora(run: Path, *, base_model: str | None = None, resolve: Callable[[str], str] = str) -> TrainedLora:
    """Read the LoRA of a run or checkpoint folder; with `ema_decay` > 0, its moving average.

    Raises:
        FileNotFoundError: no LoRA or no config there.
        ValueError: the file's header lacks rank or alpha, or the average does not fit the LoRA.
    """
    from rl.lora.reading import read_settings, read_weights
    from rl.runs.checkpoints import STATE_NAME, load_checkpoint

    folder, home = _find_weights(run)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"Expected the run's config.yaml in {folder}, found none. Copy it there from the run.")
    settings = read_settings(folder / "config.yaml")
    denoiser, weights, config = read_weights(folder)
    base_folder = resolve(settings["model"])
    if base_model and not Path(base_folder).exists():
        base_folder = resolve(base_model)
    checkpoint = (folder / STATE_NAME).is_file()
    if checkpoint:
        tensors, state = load_checkpoint(folder)
        epochs, averaged = _whole(state, "epoch", folder / STATE_NAME), "average_updates" in state
        if averaged:
            # A checkpoint holds the LoRA's last weights, for training, and the average in another file.
            weights = _averaged(weights, tensors, config, base_folder)
    else:
        summary, averaged = read_json(folder / "summary.json"), bool(settings.get("ema_decay"))
        # After an early stop the run's LoRA comes from the best evaluation, not from the last epoch.
        epochs = _whole(summary, "best_epoch" if "best_epoch" in summary else "epochs", folder / "summary.json")
    record = TrainingRecord(
        base_model=base_model or published_name(settings["model"]),
        prompts=published_name(settings.get("prompts") or ""),
        rewards=[published_name(reward) for reward in settings.get("rewards") or []],
        rank=config["r"], alpha=config["lora_alpha"], targets=sorted(config["target_modules"]),
        epochs=epochs, optimizer_steps=_optimizer_steps(home, epochs), averaged=averaged,
        run=home, final=not checkpoint, pipeline_class=_pipeline_class(base_folder),
    )
    return TrainedLora(weights, config, record, base_folder, denoiser)


def _whole(values: dict[str, Any], name: str, path: Path) -> int | None:
    value = values.get(name)
    if value is not None and (type(value) is not int or value.bit_length() > 63):
        raise ValueError(f"Expected a whole number as {name} in {path}, got {quoted(value)}.")
    return value


def header(lora: TrainedLora, license: str) -> dict[str, str]:
    """Metadata for a safetensors header, which holds text only: where the weights come from."""
    record = lora.record
    values = {
        "base_model": record.base_model, "prompts": record.prompts, "rewards": json.dumps(record.rewards),
        "epochs": record.epochs, "optimizer_steps": record.optimizer_steps, "lora_rank": record.rank,
        "lora_alpha": record.alpha, "license": license,
    }
    named = {f"hyperalign.{name}": str(value) for name, value in values.items() if value is not None}
    return {"format": "pt"} | named


def _find_weights(run: Path) -> tuple[Path, Path | None]:
    """The folder whose LoRA is exported, and the run folder that it belongs to (None if unknown)."""
    from rl.lora.adapter import WEIGHTS_NAME
    from rl.runs.checkpoints import STATE_NAME, list_checkpoints

    run = run.resolve()
    if (run / STATE_NAME).is_file():
        home = run.parent.parent
        return run, home if run.parent.name == "checkpoints" and (home / "config.yaml").is_file() else None
    newest = (list_checkpoints(run) or [None])[-1]
    if (run / WEIGHTS_NAME).is_file():
        # If a finished run was resumed and has not ended yet, its checkpoints are newer than its result.
        epochs = _whole(read_json(run / "summary.json"), "epochs", run / "summary.json")
        saved = _whole(read_json(newest / STATE_NAME), "epoch", newest / STATE_NAME) if newest else None
        if newest is None or (epochs is not None and epochs >= (saved or 0)):
            return run, run
    if newest is None:
        raise FileNotFoundError(
            f"Expected a run folder ({WEIGHTS_NAME} or checkpoints/checkpoint_N) or a checkpoint folder, got {run}: "
            "there is no LoRA there. Give the output_dir of a training run."
        )
    return newest, run


def _averaged(
    weights: dict[str, "torch.Tensor"], tensors: dict[str, "torch.Tensor"], config: dict[str, Any], base: str
) -> dict[str, "torch.Tensor"]:
    """The checkpoint's moving average under the weights' names. The checkpoint stores it by parameter index."""
    from accelerate import init_empty_weights

    from rl.lora.adapter import ADAPTER, add_lora
    from rl.models.loading import empty_denoiser

    _, denoiser = empty_denoiser(base)
    with init_empty_weights():
        add_lora(
            denoiser, rank=config["r"], alpha=config["lora_alpha"], targets=sorted(config["target_modules"]), seed=0
        )
    places = [name for name, parameter in denoiser.named_parameters() if parameter.requires_grad]
    averages = {name.replace(f".{ADAPTER}.", "."): tensors.get(f"average.{i}") for i, name in enumerate(places)}
    differing = sorted(
        name for name in weights.keys() | averages.keys()
        if name not in weights or averages.get(name) is None or averages[name].shape != weights[name].shape
    )
    if differing:
        raise ValueError(
            f"Expected the checkpoint's moving average to fit the LoRA's {len(weights)} tensors on {base}, got a "
            f"difference at {differing[0]}. Give the base model of the run."
        )
    return averages


def _pipeline_class(base: str) -> str | None:
    from rl.models.loading import pipeline_class_name

    try:
        return pipeline_class_name(base)
    except OSError:  # neither on this machine nor on the hub; most formats do not need it
        return None


def _optimizer_steps(run: Path | None, epochs: int | None) -> int | None:
    from rl.runs.metrics_file import read_metrics

    rows = read_metrics(run) if run else {}
    counts = [row["optimizer_steps"] for step, row in rows.items()
              if "optimizer_steps" in row and (epochs is None or step <= epochs)]
    return int(sum(counts)) if counts and math.isfinite(sum(counts)) else None


def _save(weights: dict[str, "torch.Tensor"], path: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata=metadata)


def _write_diffusers(lora: TrainedLora, folder: Path, name: str, metadata: dict[str, str]) -> None:
    from rl.lora.adapter import WEIGHTS_NAME

    # Without rank and alpha in the header, the loader assumes alpha = rank.
    config = {f"{lora.denoiser}.{key}": value for key, value in lora.config.items()}
    adapter = json.dumps(config, indent=2, sort_keys=True)
    # Use PEFT's names, for the same reason as in `rl.lora.adapter.save_lora`.
    layers = {f"{lora.denoiser}.{name}": tensor for name, tensor in lora.weights.items()}
    _save(layers, folder / WEIGHTS_NAME, metadata | {"lora_adapter_metadata": adapter})


def _write_peft(lora: TrainedLora, folder: Path, name: str, metadata: dict[str, str]) -> None:
    config = lora.config | {
        "base_model_name_or_path": lora.record.base_model, "inference_mode": True,
        "target_modules": lora.record.targets,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    layers = {f"base_model.model.{name}": tensor for name, tensor in lora.weights.items()}
    _save(layers, folder / "adapter_model.safetensors", metadata)


def _write_kohya(lora: TrainedLora, folder: Path, name: str, metadata: dict[str, str]) -> None:
    from diffusers import UNet2DConditionModel

    from rl.lora.kohya import kohya_header, kohya_layers

    record = lora.record
    if lora.denoiser != "unet":
        raise ValueError(
            f"format: expected one of {', '.join(name for name in FORMATS if name != 'kohya')} for the LoRA of a "
            f"{lora.denoiser}, got kohya, whose names are those of a UNet. Export as diffusers: its file has the "
            "names that the pipeline's own load_lora_weights reads."
        )
    if record.pipeline_class is None:
        raise ValueError(
            f"Expected the base model at {lora.base_folder}, found none. The layer names of a kohya file depend on it. "
            "Give its hub id with --base_model, or export as diffusers."
        )
    unet = UNet2DConditionModel.load_config(lora.base_folder, subfolder="unet")
    layers = kohya_layers(lora.weights, record.alpha, unet["layers_per_block"] if record.is_sdxl else None)
    metadata = metadata | kohya_header(record, unet, name)
    _save(layers, folder / f"{name}.safetensors", metadata)


def _write_fused(lora: TrainedLora, folder: Path, name: str, metadata: dict[str, str]) -> None:
    import torch
    from diffusers import DiffusionPipeline
    from safetensors.torch import load_file

    from rl.lora.adapter import add_lora, load_lora

    pipeline = DiffusionPipeline.from_pretrained(lora.base_folder, dtype=torch.float32, **_absent_parts(lora))
    record, denoiser = lora.record, getattr(pipeline, lora.denoiser)
    try:
        add_lora(denoiser, rank=record.rank, alpha=record.alpha, targets=record.targets, seed=0)
        with tempfile.TemporaryDirectory(dir=folder) as weights:
            _write_diffusers(lora, Path(weights), name, metadata)
            load_lora(denoiser, type(pipeline), Path(weights))  # raises where diffusers' own loader only warns
    except ValueError as error:
        raise ValueError(
            f"Expected the base model of the run at {lora.base_folder}, got a model that the LoRA does not fit: {error}"
        ) from error
    denoiser.fuse_lora()
    denoiser.unload_lora()
    pipeline.save_pretrained(folder, safe_serialization=True)
    del pipeline, denoiser
    for path in (folder / lora.denoiser).glob("*.safetensors"):
        _save(load_file(path), path.with_suffix(".tmp"), metadata)
        path.with_suffix(".tmp").replace(path)


_WRITERS = {"diffusers": _write_diffusers, "peft": _write_peft, "kohya": _write_kohya, "fused": _write_fused}


def _absent_parts(lora: TrainedLora) -> dict[str, None]:
    from diffusers import DiffusionPipeline

    from rl.models.loading import absent_parts

    found = lora.record.pipeline_class is not None
    return absent_parts(DiffusionPipeline.load_config(lora.base_folder)) if found else {}


def _usage(format: str, place: str, lora: TrainedLora, name: str) -> str:
    base, denoiser = lora.record.base_model, lora.denoiser
    absent = "".join(f", {part}=None" for part in _absent_parts(lora))
    load = "from diffusers import DiffusionPipeline\n\npipeline = DiffusionPipeline.from_pretrained"
    start = f'{load}("{base}"{absent})\n'
    code = {
        "diffusers": start + f'pipeline.load_lora_weights("{place}")',
        "peft": "from peft import PeftModel\n" + start
        + f'pipeline.{denoiser} = PeftModel.from_pretrained(pipeline.{denoiser}, "{place}")',
        "kohya": start + f'pipeline.load_lora_weights("{place}", weight_name="{name}.safetensors")',
        "fused": f'{load}("{place}"{absent})',
    }[format]
    text = f"```python\n{code}\npipeline(\"a prompt\").images[0]\n```"
    if format == "kohya":
        text += (
            f"\n\nComfyUI: put `{name}.safetensors` into `models/loras`. A1111 and its forks: put it into "
            f"`models/Lora` and write `<lora:{name}:1>` in the prompt."
        )
    return text


def _check_push(repo: str, base_model: str) -> None:
    if not _HUB_ID.fullmatch(repo):
        raise ValueError(f"push_to_hub: expected a repository OWNER/NAME, got {repo!r}.")
    if not _HUB_ID.fullmatch(base_model):
        raise ValueError(
            f"base_model: expected a hub id OWNER/NAME, because a card on the hub names the base model, got "
            f"{base_model!r}. Give --base_model."
        )


def _push(folder: Path, repo: str) -> None:
    from huggingface_hub import HfApi

    client = HfApi()
    client.create_repo(repo, exist_ok=True)
    client.upload_folder(repo_id=repo, folder_path=folder, commit_message="LoRA trained with HyperAlign")
