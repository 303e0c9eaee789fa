"""What HyperAlign is trained on: regression, ranking and dynamic-supervision entailment."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from reward.model.config import HyperAlignConfig


def regression_loss(score: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the score against the human score in [0, 1] (ours; the paper leaves it open).

    Args:
        score, target: (B,).

    Returns:
        scalar >= 0.
    """
    return (score - target).square().mean()


def ranking_loss(score: Tensor, target: Tensor, temperature: float = 0.1, min_gap: float = 0.02) -> Tensor:
    """Pairwise logistic loss, softplus(-(s_i - s_j) / temperature) over pairs with target_i - target_j > min_gap.

    RankNet (Burges et al. 2005), with a temperature since scores live in about [0, 1]; closer targets than `min_gap`
    are rater noise and do not count.

    Args:
        score, target: (B,).

    Returns:
        scalar >= 0; 0 where no pair counts.
    """
    better = (target.unsqueeze(1) - target.unsqueeze(0)) > min_gap
    losses = softplus(-(score.unsqueeze(1) - score.unsqueeze(0)) / temperature)
    return (losses * better).sum() / better.sum().clamp(min=1)


def entailment_loss(
    exterior_angle: Tensor, half_aperture: Tensor, target: Tensor, form: str | None, contraction: float = 0.8
) -> Tensor:
    """Cone entailment with a supervised aperture: delta(s) = delta (1 - contraction s), s the human score in [0, 1].

    paper      max(0, phi - delta(s)); taken literally it also pulls bad images (s = 0) into the cone
    weighted   s max(0, phi - delta(s)); a bad image is left alone
    two_sided  s max(0, phi - delta(s)) + (1 - s) max(0, delta - phi); a bad image is pushed out of the full cone

    delta(s) is our reading of the paper's "0.8 controls the largest contraction"; the last two forms are ours.

    Args:
        exterior_angle, half_aperture: phi and delta in radians, (B,).
        target: s, (B,).
        form: one of the above, or None for 0.
        contraction: in [0, 1).

    Returns:
        scalar >= 0, radians.

    Raises:
        ValueError: an unknown form.
    """
    if form is None:
        return exterior_angle.new_zeros(())
    pull = torch.relu(exterior_angle - half_aperture * (1 - contraction * target))
    if form == "paper":
        return pull.mean()
    if form == "weighted":
        return (target * pull).mean()
    if form == "two_sided":
        return (target * pull + (1 - target) * torch.relu(half_aperture - exterior_angle)).mean()
    raise ValueError(f"Expected entailment to be 'paper', 'weighted', 'two_sided' or None but got {form!r}")


def saturated_share(half_aperture: Tensor) -> Tensor:
    """Share of cones that are open to pi/2: near 1 means that the texts have collapsed towards the origin."""
    return (half_aperture > math.pi / 2 - 1e-3).to(half_aperture.dtype).mean()


@dataclass(frozen=True)
class Objective:
    """regression + lambda_rank * ranking + lambda_ent * entailment; a part of weight 0 is reported, not trained on.

    Example:
        >>> objective = Objective.of(HyperAlignConfig(lambda_rank=0.0, entailment=None))
        >>> parts = objective(score, exterior_angle, half_aperture, target)
        >>> parts["loss"] == parts["regression"]
        tensor(True)
    """

    lambda_rank: float
    lambda_ent: float
    entailment: str | None
    contraction: float = 0.8

    @classmethod
    def of(cls, config: HyperAlignConfig) -> "Objective":
        """The objective that a model's config names."""
        return cls(config.lambda_rank, config.lambda_ent, config.entailment, config.contraction)

    def __call__(
        self, score: Tensor, exterior_angle: Tensor, half_aperture: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Scalars `loss`, `regression`, `ranking` and `entailment` of pairs, each argument (B,)."""
        parts = {
            "regression": regression_loss(score, target),
            "ranking": ranking_loss(score, target),
            "entailment": entailment_loss(exterior_angle, half_aperture, target, self.entailment, self.contraction),
        }
        loss = parts["regression"]
        for weight, name in ((self.lambda_rank, "ranking"), (self.lambda_ent, "entailment")):
            if weight != 0:
                loss = loss + weight * parts[name]
        return {"loss": loss, **parts}
