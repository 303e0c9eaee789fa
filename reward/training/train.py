"""Train HyperAlign on human scores: a head on precomputed features, or a whole run from data set to model folder."""

import csv
import dataclasses
import json
import math
import time
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reward.files.writing import remove_scratch, write_text, write_whole
from reward.model.config import Entailment
from reward.model.head import HyperAlign
from reward.model.losses import Objective
from reward.parallel.processes import Processes
from reward.training.fit_loop import all_features, fit, predict, spearman
from reward.training.pairs import FeaturePairs, ImagePairs
from reward.training.recipe import TrainingConfig, write_training_config

if TYPE_CHECKING:
    from reward.datasets import AlignmentDataset

__all__ = ["fit_head", "nested_features", "spearman", "train", "train_head"]

Pairs = tuple[Tensor, Tensor, Tensor]

STATE_NAME = "training_state.safetensors"
CONFIG_NAME = "training.yaml"
SPLIT_NAME = "split.json"
METRICS_NAME = "metrics.json"
CONTROLS_NAME = "controls"
_FROM_CONFIG = "from config"


def fit_head(
    model: HyperAlign,
    image_features: Tensor,
    text_features: Tensor,
    scores: Tensor,
    *,
    epochs: int = 20,
    batch_size: int = 256,
    lr: float = 1e-3,
    weight_decay: float = 1e-2,
    lambda_rank: float | None = None,
    lambda_ent: float | None = None,
    entailment: Entailment | None | str = _FROM_CONFIG,
    val: Pairs | None = None,
    nested: Pairs | None = None,
    patience: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Train a head on precomputed features, with AdamW and a cosine schedule.

    The loss is regression + lambda_rank * ranking + lambda_ent * entailment. The head is calibrated on the training
    features first. With `val`, the weights of the epoch with the smallest validation regression loss are kept. With
    `val` and `patience`, the weights of the epoch with the highest validation SRCC are kept.

    Args:
        model: the head, trained in place.
        image_features, text_features: un-normalised backbone features of pairs, (N, D).
        scores: human scores in [0, 1], (N,).
        epochs: largest number of epochs.
        batch_size: pairs per step.
        lr, weight_decay: learning rate and weight decay of AdamW.
        lambda_rank, lambda_ent, entailment: by default as in `model.config`.
        val: (image_features, text_features, scores) of held-out pairs.
        nested: of `nested_features`, for entailment "compositional".
        patience: stop after this many epochs without a higher SRCC on `val`.
        seed: seed of the shuffling. Two runs with equal initial weights and equal seeds are equal.
        progress: show a bar.

    Returns:
        history, one value per epoch: loss, regression, ranking, entailment, saturated_share, std_text_radius, and with
        `val` also val_regression and val_srcc.

    Raises:
        ValueError: shapes do not fit, scores are outside [0, 1], input or loss is not finite, or `patience` is given
            without `val`.

    Example:
        >>> history = fit_head(HyperAlign(HyperAlignConfig(embed_dim=8)), image, text, scores, epochs=3)
        >>> len(history["loss"])
        3
    """
    own = model.config
    objective = Objective(
        own.lambda_rank if lambda_rank is None else lambda_rank,
        own.lambda_ent if lambda_ent is None else lambda_ent,
        own.entailment if entailment == _FROM_CONFIG else entailment,
        own.contraction,
    )
    train = FeaturePairs(model, image_features, text_features, scores, "training", nested)
    _check_nested(objective, train)
    held_out = None if val is None else FeaturePairs(model, *val, "validation")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"Expected epochs and batch_size of at least 1 but got {epochs} and {batch_size}")
    if patience is not None and val is None:
        raise ValueError(
            f"Expected val with patience={patience}, because early stopping needs validation pairs, but got val=None"
        )
    config = TrainingConfig(
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        lr_head=lr,
        lr_adapter=lr,
        lr_scales=lr,
        weight_decay=weight_decay,
        patience=patience or 0,
    )
    model.calibrate(train.image, train.text)
    select = "regression" if patience is None else "srcc"
    return fit(
        model, train, held_out, objective, config, select=select, watch=_radius_watch(model, train), progress=progress
    )


def train_head(
    config: TrainingConfig,
    train: FeaturePairs | ImagePairs,
    val: FeaturePairs | ImagePairs,
    *,
    processes: Processes | None = None,
    state_path: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> tuple[HyperAlign, dict[str, list[float]]]:
    """Train a new head, and with `ImagePairs` also the backbone.

    Args:
        config: `config.model.embed_dim` must be the width of the features.
        train, val: training and validation pairs. They must not contain test pairs.
        processes, state_path, resume, progress: as in `reward.training.fit_loop.fit`.

    Returns:
        (head, history).
    """
    head = new_head(config).to(train.scores.device)
    is_table = isinstance(train, FeaturePairs)
    head.calibrate(*((train.image, train.text) if is_table else all_features(train, processes)))
    watch = _radius_watch(head, train) if is_table else None
    _check_nested(Objective.of(config.model), train)
    history = fit(
        head, train, val, Objective.of(config.model), config,
        processes=processes, watch=watch, state_path=state_path, resume=resume, progress=progress,
    )  # fmt: skip
    return head, history


def new_head(config: TrainingConfig) -> HyperAlign:
    """An untrained head. Its initial weights depend only on `config.model` and `config.seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return HyperAlign(config.model)


def train(
    config: TrainingConfig,
    dataset: "AlignmentDataset",
    output_dir: str | PathLike,
    *,
    cache_dir: str | PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model on a data set and save it. The data set is split by prompt into training, validation and test.

    Writes to `output_dir` the files that `HyperAlignReward.from_pretrained` reads. Also writes training.yaml,
    split.json (the prompts of each part, the range of the scores), history.csv, metrics.json and controls/ (weights of
    the control models). Several processes, started by `accelerate launch`, share the batches. They end with the same
    weights as one process, up to rounding.

    Args:
        config: configuration of the run.
        dataset: human scores in any range. They are scaled to [0, 1] by the range of the training part.
        output_dir: created if it does not exist.
        cache_dir: folder for features of the frozen backbone; None disables the cache.
        resume: continue an interrupted run.
        progress: show bars.

    Returns:
        the contents of metrics.json: epochs, best_epoch, val_srcc, test (see `correlations`), controls (the same for
        each control model), seconds.

    Raises:
        FileExistsError: `output_dir` contains a model, or contains the state of a run and `resume` is False.
        ValueError: there are too few prompts, a score or the loss is not finite, or the state belongs to another run.

    Example:
        >>> metrics = train(TrainingConfig(epochs=5), dataset, "runs/hyperalign")  # doctest: +SKIP
        >>> sorted(metrics)  # doctest: +SKIP
        ['best_epoch', 'controls', 'epochs', 'seconds', 'test', 'val_srcc']
    """
    from reward.backbone.loading import resolve_backbone
    from reward.backbone.towers import Backbone
    from reward.hyperalign_reward import HyperAlignReward

    start = time.monotonic()
    folder = Path(output_dir)
    if resume and (folder / METRICS_NAME).is_file():
        (folder / STATE_NAME).unlink(missing_ok=True)
        return json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))
    _refuse_occupied(folder, resume)
    processes, device = Processes.start()
    progress = progress and processes.is_main

    backbone = Backbone(resolve_backbone(config.model.backbone, Path.cwd()), config.model.pretrained).to(device)
    model = dataclasses.replace(config.model, embed_dim=backbone.embed_dim, backbone=backbone.name)
    config = dataclasses.replace(config, model=model)
    parts, about = _divided(config, dataset)
    pairs = _encoded(config, backbone, dataset, parts, about["score_range"], cache_dir, processes, progress)
    processes.wait()  # write only after all processes have checked that the folder was free
    if processes.is_main:
        remove_scratch(folder)
        write_training_config(config, folder / CONFIG_NAME)
        write_text(folder / SPLIT_NAME, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    head, history = train_head(
        config, pairs["train"], pairs["val"],
        processes=processes, state_path=folder / STATE_NAME, resume=resume, progress=progress,
    )  # fmt: skip
    epochs = range(len(history["val_srcc"]))
    kept = epochs[-1] if config.keep_epoch == "last" else max(epochs, key=lambda i: _best_key(history, i))
    metrics = {
        "epochs": len(history["loss"]),
        "best_epoch": kept + 1,
        "val_srcc": history["val_srcc"][kept],
        "test": _measured(head, pairs["test"], dataset, parts["test"], processes),
        "controls": {},
    }
    if config.controls and not config.fine_tune and processes.is_main:
        from reward.training.controls import CONTROLS, fit_control, save_control

        for name in CONTROLS:
            twin = fit_control(name, config, pairs["train"], pairs["val"], progress=progress)
            save_control(name, twin, folder / CONTROLS_NAME)
            metrics["controls"][name] = _measured(twin, pairs["test"], dataset, parts["test"], Processes())
    if processes.is_main:
        _write_history(history, folder / "history.csv")
        HyperAlignReward(model, head, backbone).save_pretrained(folder)
        metrics["seconds"] = round(time.monotonic() - start, 2)
        write_text(folder / METRICS_NAME, json.dumps(_json_values(metrics), indent=2, allow_nan=False) + "\n")
        (folder / STATE_NAME).unlink(missing_ok=True)
    processes.wait()
    return json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))


def _refuse_occupied(folder: Path, resume: bool) -> None:
    # a run that was killed while it saved its model has both a model and a state
    unfinished = resume and (folder / STATE_NAME).exists()
    if (folder / METRICS_NAME).exists() or ((folder / "config.json").exists() and not unfinished):
        raise FileExistsError(
            f"Expected a new output folder but {folder} contains a model; choose another folder, or move this one"
        )
    if (folder / STATE_NAME).exists() and not resume:
        raise FileExistsError(
            f"Expected a new output folder but {folder} contains an interrupted run; continue it (resume, --resume), "
            "choose another folder, or delete this one"
        )


def _divided(config: TrainingConfig, dataset: "AlignmentDataset") -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of each part, and the contents of split.json."""
    from reward.datasets import ScoreScale, split_by_prompt

    split = split_by_prompt(
        dataset.prompts, seed=config.split_seed, test_share=config.test_share, val_share=config.val_share
    )
    parts = {"train": split.train, "val": split.val, "test": split.test}
    scale = ScoreScale.fit(dataset.scores[split.train])
    prompts = {name: sorted({dataset.prompts[i] for i in rows}) for name, rows in parts.items()}
    about = {"dataset": dataset.name, "pairs": len(dataset), "score_range": [float(scale.low), float(scale.high)]}
    return parts, about | {"prompts": prompts}


def _encoded(config, backbone, dataset, parts, score_range, cache_dir, processes, progress) -> dict[str, Any]:
    """The pairs of each part: `FeaturePairs`, or `ImagePairs` for fine-tuning; None for a part without rows."""
    from reward.datasets import ScoreScale

    scores = torch.from_numpy(ScoreScale(*score_range).to_unit(dataset.scores)).float()
    swapped = _swapped(config, dataset, parts["train"], scores)
    pairs: dict[str, Any] = {name: None for name in parts}
    if config.fine_tune:
        backbone.unfreeze()
        for name, rows in parts.items():
            if len(rows):
                chosen = [dataset.images[i] for i in rows], [dataset.prompts[i] for i in rows], scores[rows]
                if name == "train" and swapped[0]:
                    again, prompts, targets = swapped
                    more = [dataset.images[i] for i in again], prompts, torch.tensor(targets)
                    chosen = chosen[0] + more[0], chosen[1] + more[1], torch.cat([chosen[2], more[2]])
                pairs[name] = ImagePairs(backbone, *chosen, mixed_precision=config.mixed_precision)
        return pairs
    image, text = _features(backbone, dataset, cache_dir, processes, progress)
    head = HyperAlign(config.model).to(backbone.device)
    for name, rows in parts.items():
        if len(rows):
            chosen = image[rows], text[rows], scores[rows]
            if name == "train" and swapped[0]:
                again, prompts, targets = swapped
                more = image[again], _prompt_features(backbone, prompts).to(text), torch.tensor(targets)
                chosen = tuple(torch.cat(both) for both in zip(chosen, more, strict=True))
            nested = None
            if name == "train" and config.model.entailment == "compositional":
                nested = nested_features(backbone, [dataset.prompts[i] for i in rows] + swapped[1], config.seed)
            pairs[name] = FeaturePairs(head, *chosen, f"{name} part's", nested)
    return pairs


def _check_nested(objective: Objective, train: FeaturePairs | ImagePairs) -> None:
    # Without shorter prompts it would silently be the two-sided loss.
    if objective.entailment == "compositional" and objective.lambda_ent and getattr(train, "nested", None) is None:
        raise ValueError(
            "Expected shorter prompts with entailment 'compositional' but got none. Pass `nested`, or use 'two_sided'"
        )


def nested_features(backbone, prompts: list[str], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the prompts that have shorter ones, features of one of these and of one that the prompt does not imply.

    Raises:
        ImportError: the prompts need spaCy's English model and there is none; the message has the command.
    """
    from reward.training.nested import nested_prompts

    rows, own, foreign = nested_prompts(prompts, seed)
    empty = torch.zeros(0, backbone.embed_dim, device=backbone.device)
    features = [_prompt_features(backbone, texts) if texts else empty for texts in (own, foreign)]
    return torch.tensor(rows, dtype=torch.long), *features


def _swapped(config, dataset, rows, scores) -> tuple[list[int], list[str], list[float]]:
    """Rows of the data set, swapped prompts and targets of the hard negatives; none where none are wanted."""
    if not config.hard_negatives:
        return [], [], []
    from reward.training.hard_negatives import hard_negatives

    prompts = [dataset.prompts[i] for i in rows]
    chosen, changed, targets = hard_negatives(prompts, scores[rows].tolist(), config.hard_negatives, config.seed)
    return [int(rows[i]) for i in chosen], changed, targets


@torch.no_grad()
def _prompt_features(backbone, prompts: list[str]) -> Tensor:
    return torch.cat([backbone.encode_prompts(prompts[i : i + 64]) for i in range(0, len(prompts), 64)])


def _features(backbone, dataset, cache_dir, processes, progress) -> tuple[Tensor, Tensor]:
    from reward.training.feature_cache import backbone_features

    if processes.count > 1 and cache_dir is not None:
        mine = slice(processes.rank, None, processes.count)
        backbone_features(backbone, dataset.images[mine], dataset.prompts[mine], cache_dir, progress=progress)
        processes.wait()
    return backbone_features(backbone, dataset.images, dataset.prompts, cache_dir, progress=progress)


def _measured(head, pairs, dataset, rows, processes) -> dict[str, float] | None:
    from reward.datasets import prompt_key
    from reward.statistics.correlations import correlations

    if pairs is None:
        return None
    predicted = predict(head, pairs, processes).double().cpu().numpy()
    return correlations(predicted, dataset.scores[rows], [prompt_key(dataset.prompts[i]) for i in rows])


def _best_key(history: dict[str, list[float]], epoch: int) -> tuple[float, float]:
    srcc = history["val_srcc"][epoch]
    return (srcc if math.isfinite(srcc) else -math.inf, -history["val_regression"][epoch])


def _radius_watch(head: HyperAlign, pairs: FeaturePairs):
    @torch.no_grad()
    def watch() -> dict[str, float]:
        return {"std_text_radius": head.radii(pairs.image, pairs.text)[1].std(correction=0).item()}

    return watch


def _write_history(history: dict[str, list[float]], path: Path) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *history])
            writer.writerows([i + 1, *row] for i, row in enumerate(zip(*history.values(), strict=True)))

    write_whole(path, write)


def _json_values(value: Any) -> Any:
    """Replace NaN and infinity by None, because JSON has neither."""
    if isinstance(value, dict):
        return {key: _json_values(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
