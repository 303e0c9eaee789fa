"""The training loop: AdamW, the best epoch by validation, early stopping, exact resume."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from reward.model.losses import Objective, nesting_loss, regression_loss, saturated_share
from reward.parallel.processes import Processes
from reward.training.pairs import FeaturePairs, ImagePairs
from reward.training.parameter_groups import parameter_groups
from reward.training.recipe import TrainingConfig
from reward.training.state import optimizer_tensors, read_state, refuse_other_run, restore_optimizer, write_state

Pairs = FeaturePairs | ImagePairs


@dataclass
class _Course:
    """Progress of a fit: epochs done, history, and the best epoch with its weights."""

    epoch: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    best: list[float] | None = None
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None


def fit(
    head: nn.Module,
    train: Pairs,
    val: Pairs | None,
    objective: Objective,
    config: TrainingConfig,
    *,
    select: Literal["srcc", "regression"] = "srcc",
    processes: Processes | None = None,
    watch: Callable[[], dict[str, float]] | None = None,
    state_path: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    description: str = "fit head",
) -> dict[str, list[float]]:
    """Minimise `objective` over `train`. With `val`, the weights of the best epoch are kept.

    Args:
        head: maps (image features, text features) to `HyperAlignOutput`. It must be calibrated; it is trained in place.
        train: training pairs.
        val: validation pairs. Training stops after `config.patience` epochs without a better one. If
            `config.keep_epoch` is "last", they do not choose the weights.
        objective: the loss.
        config: epochs, batch size, learning rates and so on.
        select: how epochs are compared. "srcc": by validation SRCC, ties by regression loss. "regression": by
            validation regression loss.
        processes: the processes that share the batches. Each must call this function with the same arguments.
        watch: called after each epoch; its values are added to the history.
        state_path: file for the state after each epoch. On a CPU, a resumed run ends bit for bit as an uninterrupted
            one.
        resume: continue from `state_path` if the file exists.
        progress: show a bar with the name `description`.

    Returns:
        history, one value per epoch: loss, regression, ranking, entailment, saturated_share, the values of `watch`, and
        with `val` also val_regression and val_srcc.

    Raises:
        ValueError: the loss is not finite, `val` has fewer than two different scores, or the state belongs to another
            run.
    """
    if val is not None and len(val.scores.unique()) < 2:
        raise ValueError(
            "Expected validation pairs with at least two different scores, because equal scores cannot be ranked; "
            "use more validation pairs"
        )
    processes = processes or Processes()
    backbone = train.backbone
    whole = nn.ModuleDict({"head": head} if backbone is None else {"head": head, "backbone": backbone})
    rates = {"head": config.lr_head, "adapter": config.lr_adapter, "scales": config.lr_scales}
    groups = parameter_groups(head, backbone, rates | {"backbone": config.lr_backbone}, config.weight_decay)
    parameters = [p for group in groups for p in group["params"]]
    before = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW([{**group, "initial_lr": group["lr"]} for group in groups], fused=True)
    scaler = torch.amp.GradScaler(train.scores.device.type, enabled=config.mixed_precision == "fp16")
    generator = torch.Generator().manual_seed(config.seed)
    processes.copy_from_main([*whole.parameters(), *whole.buffers()])

    run = {"config": config.to_dict(), "objective": repr(objective), "select": select, "data": train.fingerprint(),
           "validation": None if val is None else val.fingerprint()}  # fmt: skip
    course = _Course()
    if resume and state_path is not None and state_path.is_file():
        course = _restored(state_path, run, whole, optimizer, scaler, generator)

    bar = tqdm(total=config.epochs, initial=course.epoch, desc=description, disable=not progress)
    while course.epoch < config.epochs and not _stopped(course, config, val):
        head.train()
        row = _epoch(course.epoch, head, train, objective, config, optimizer, scaler, generator, parameters, processes)
        head.eval()
        row |= watch() if watch is not None else {}
        if val is not None:
            row |= validate(head, val, processes)
            key = [-row["val_regression"]]
            if select == "srcc":
                key.insert(0, row["val_srcc"] if math.isfinite(row["val_srcc"]) else -math.inf)
            if course.best is None or key > course.best:
                course.best, course.best_epoch = key, course.epoch + 1
                course.best_weights = copy.deepcopy(whole.state_dict())
        for name, value in row.items():
            course.history.setdefault(name, []).append(value)
        course.epoch += 1
        if state_path is not None and processes.is_main:
            _save(state_path, course, run, whole, optimizer, scaler, generator)
        bar.update()
        bar.set_postfix({k: f"{v:.4f}" for k, v in row.items() if k in ("loss", "val_regression", "val_srcc")})
    bar.close()
    if course.best_weights is not None and config.keep_epoch == "best":
        whole.load_state_dict(course.best_weights)
    for parameter, flag in zip(parameters, before, strict=True):
        parameter.requires_grad_(flag)
        parameter.grad = None
    if backbone is not None:
        backbone.clear_cache()
    head.eval()
    return course.history


def _epoch(
    epoch: int,
    head: nn.Module,
    train: Pairs,
    objective: Objective,
    config: TrainingConfig,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    generator: torch.Generator,
    parameters: list[Tensor],
    processes: Processes,
) -> dict[str, float]:
    """Train for one epoch; returns the mean of each loss over the pairs."""
    count, device = len(train), train.scores.device
    batches = torch.randperm(count, generator=generator).to(device).split(config.batch_size)
    sums: dict[str, Tensor] = {}
    for number, rows in enumerate(batches):
        share = _learning_rate_share(config, epoch * len(batches) + number, config.epochs * len(batches))
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
        output = head(*train.features(processes.share(rows)))
        score, angle, aperture = (
            processes.join(part, len(rows)) for part in (output.score, output.exterior_angle, output.half_aperture)
        )
        parts = objective(score, angle, aperture, train.scores[rows], _nesting(head, train, rows, objective, processes))
        if not torch.isfinite(parts["loss"]):
            raise ValueError(
                f"The loss became {parts['loss'].item()} in epoch {epoch}; lower lr (now {config.lr_head})"
            )
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(parts["loss"]).backward()
        processes.sum_gradients(parameters)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        parts["saturated_share"] = saturated_share(aperture.detach())
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.detach().double() * len(rows)
    return {name: value.item() / count for name, value in sums.items()}


def _nesting(
    head: nn.Module, train: Pairs, rows: Tensor, objective: Objective, processes: Processes
) -> Tensor | None:
    """What a compositional entailment loss adds."""
    nested = train.nested_features(rows) if objective.entailment == "compositional" else None
    if nested is None:
        return None
    text, own, foreign = nested
    loss = nesting_loss(*head.text_entailment(own, text), *head.text_entailment(foreign, text))
    # every process computes it of the whole batch, and their gradients are added up
    return loss.detach() + (loss - loss.detach()) / processes.count


@torch.no_grad()
def predict(head: nn.Module, pairs: Pairs, processes: Processes | None = None) -> Tensor:
    """Scores (N,) of all pairs. The processes share the work, and each returns all scores."""
    processes = processes or Processes()
    rows = torch.arange(len(pairs), device=pairs.scores.device)
    chunks = rows.split(pairs.chunk * processes.count)
    return torch.cat([processes.join(head(*pairs.features(processes.share(c))).score, len(c)) for c in chunks])


@torch.no_grad()
def all_features(pairs: Pairs, processes: Processes | None = None) -> tuple[Tensor, Tensor]:
    """(image, text) features of all pairs, each (N, D). The processes share the work, and each returns all features."""
    processes = processes or Processes()
    chunks = torch.arange(len(pairs), device=pairs.scores.device).split(pairs.chunk * processes.count)
    found = [[processes.join(f, len(c)) for f in pairs.features(processes.share(c))] for c in chunks]
    image, text = (torch.cat(parts) for parts in zip(*found, strict=True))
    return image, text


def validate(head: nn.Module, val: Pairs, processes: Processes) -> dict[str, float]:
    """The validation statistics val_regression (mean squared error) and val_srcc (Spearman)."""
    predicted = predict(head, val, processes)
    return {
        "val_regression": regression_loss(predicted, val.scores).item(),
        "val_srcc": spearman(predicted, val.scores),
    }


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation of (N,) values, with average ranks for ties; NaN if one side is constant."""
    from scipy.stats import rankdata

    a, b = (torch.from_numpy(rankdata(v.detach().double().cpu().numpy())) for v in (x, y))
    return torch.corrcoef(torch.stack((a, b)))[0, 1].item()


def _stopped(course: _Course, config: TrainingConfig, val: Pairs | None) -> bool:
    return val is not None and config.patience > 0 and course.epoch - course.best_epoch >= config.patience


def _learning_rate_share(config: TrainingConfig, step: int, steps: int) -> float:
    return 1.0 if config.lr_schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / steps))


def _save(path, course, run, whole, optimizer, scaler, generator) -> None:
    tensors = {f"weights.{name}": value for name, value in whole.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in (course.best_weights or {}).items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizer).items()}
    tensors["generator"] = generator.get_state()
    values = {"epoch": course.epoch, "history": course.history, "best": course.best, "best_epoch": course.best_epoch}
    write_state(path, tensors, values | {"run": run, "scaler": scaler.state_dict()})


def _restored(path, run, whole, optimizer, scaler, generator) -> _Course:
    tensors, values = read_state(path)
    refuse_other_run(values["run"], run, path)

    def part(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    whole.load_state_dict(part("weights."))
    restore_optimizer(optimizer, part("optimizer."))
    scaler.load_state_dict(values["scaler"])
    generator.set_state(tensors["generator"])
    names = ("epoch", "history", "best", "best_epoch")
    return _Course(**{name: values[name] for name in names}, best_weights=part("best.") or None)
