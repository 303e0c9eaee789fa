"""Fit a HyperAlign head on backbone features and human scores: one short loop."""

import copy
import math

import torch
from torch import Tensor
from tqdm import tqdm

from reward.config import Entailment
from reward.losses import entailment_loss, ranking_loss, regression_loss, saturated_share
from reward.model import HyperAlign, HyperAlignOutput

Pairs = tuple[Tensor, Tensor, Tensor]

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
    seed: int = 0,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Minimise regression + lambda_rank * ranking + lambda_ent * entailment with AdamW and a cosine schedule.

    Mean norms and the standardisation of Z are set from the training features first. With `val`, the weights of the
    epoch with the smallest validation regression loss are kept.

    Args:
        model: the head, trained in place.
        image_features, text_features: un-normalised backbone features of pairs, (N, D).
        scores: human scores in [0, 1], (N,).
        lambda_rank, lambda_ent, entailment: by default as in `model.config`.
        val: (image_features, text_features, scores) of held-out pairs.
        seed: of the shuffling; two runs from equal weights are equal.
        progress: show a bar.

    Returns:
        history, one value an epoch: loss, regression, ranking, entailment, saturated_share, std_text_radius, and with
        `val` also val_regression and val_srcc.

    Raises:
        ValueError: shapes that do not fit, scores outside [0, 1], non-finite input or loss.
    """
    config = model.config
    lambda_rank = config.lambda_rank if lambda_rank is None else lambda_rank
    lambda_ent = config.lambda_ent if lambda_ent is None else lambda_ent
    entailment = config.entailment if entailment == _FROM_CONFIG else entailment
    data = _checked_pairs(model, (image_features, text_features, scores), "training")
    held_out = None if val is None else _checked_pairs(model, val, "validation")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"Expected epochs and batch_size of at least 1 but got {epochs} and {batch_size}")

    model.calibrate(*data[:2])
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    model.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(_parameter_groups(model, weight_decay), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    count = len(data[2])
    steps = epochs * math.ceil(count / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 0.5 * (1 + math.cos(math.pi * s / steps)))

    history: dict[str, list[float]] = {}
    best, best_state = math.inf, None
    bar = tqdm(range(epochs), desc="fit head", disable=not progress)
    for epoch in bar:
        sums: dict[str, float] = {}
        for rows in torch.randperm(count, generator=generator).to(data[2].device).split(batch_size):
            image, text, target = (x[rows] for x in data)
            output = model(image, text)
            parts = _losses(output, target, entailment, config.contraction)
            loss = parts["regression"] + lambda_rank * parts["ranking"] + lambda_ent * parts["entailment"]
            if not torch.isfinite(loss):
                raise ValueError(f"The loss became {loss.item()} in epoch {epoch}; lower lr (now {lr})")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(rows)
        row = {name: value / count for name, value in sums.items()}
        with torch.no_grad():
            row["std_text_radius"] = model.radii(*data[:2])[1].std(correction=0).item()
            if held_out is not None:
                predicted = model(*held_out[:2]).score
                row["val_regression"] = regression_loss(predicted, held_out[2]).item()
                row["val_srcc"] = spearman(predicted, held_out[2])
                if row["val_regression"] < best:
                    best, best_state = row["val_regression"], copy.deepcopy(model.state_dict())
        for name, value in row.items():
            history.setdefault(name, []).append(value)
        bar.set_postfix({k: f"{v:.4f}" for k, v in row.items() if k in ("loss", "val_regression", "val_srcc")})
    if best_state is not None:
        model.load_state_dict(best_state)
    for parameter, flag in trainable:
        parameter.requires_grad_(flag)
    model.eval()
    return history


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation, ties by average rank; NaN where one side is constant."""
    from scipy.stats import rankdata

    a, b = (torch.from_numpy(rankdata(v.detach().double().cpu().numpy())) for v in (x, y))
    return torch.corrcoef(torch.stack((a, b)))[0, 1].item()


def _losses(output: HyperAlignOutput, target: Tensor, entailment: str | None, contraction: float) -> dict[str, Tensor]:
    return {
        "regression": regression_loss(output.score, target),
        "ranking": ranking_loss(output.score, target),
        "entailment": entailment_loss(output.exterior_angle, output.half_aperture, target, entailment, contraction),
        "saturated_share": saturated_share(output.half_aperture.detach()),
    }


def _parameter_groups(model: HyperAlign, weight_decay: float) -> list[dict]:
    """Matrices decay; gates, scales and biases, whose zero means nothing special, do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _checked_pairs(model: HyperAlign, pairs: Pairs, name: str) -> Pairs:
    image, text, scores = (x.detach().to(model.image_norm) for x in pairs)
    model.check_features(image, text)
    if image.ndim != 2 or text.ndim != 2 or not len(image) == len(text) == len(scores) or scores.ndim != 1:
        raise ValueError(
            f"Expected {name} features (N, D), (N, D) and scores (N,) but got {tuple(image.shape)}, "
            f"{tuple(text.shape)} and {tuple(scores.shape)}"
        )
    if len(scores) == 0:
        raise ValueError(f"Expected at least one {name} pair but got none")
    for part, values in (("image features", image), ("text features", text), ("scores", scores)):
        if not torch.isfinite(values).all():
            raise ValueError(f"Expected finite {name} {part} but got NaN or Inf")
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(
            f"Expected {name} scores in [0, 1] but got [{scores.min():.4g}, {scores.max():.4g}]; rescale them, for "
            "example (score - low) / (high - low)"
        )
    return image, text, scores
