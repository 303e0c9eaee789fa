"""Losses of HyperAlign: regression, ranking, and entailment with an aperture set by the human score."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from reward.model.config import HyperAlignConfig

_NESTING_MARGIN = 0.1


def regression_loss(score: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the score. The paper does not specify this loss; it is our choice.

    Args:
        score: predicted scores, (B,).
        target: human scores in [0, 1], (B,).

    Returns:
        scalar >= 0.
    """
    return (score - target).square().mean()


def ranking_loss(score: Tensor, target: Tensor, temperature: float = 0.1, min_gap: float = 0.02) -> Tensor:
    """Pairwise logistic loss: mean of softplus(-(s_i - s_j) / temperature) where target_i - target_j > min_gap.

    This is RankNet (Burges et al. 2005) with a temperature, because scores are in about [0, 1]. Pairs whose targets
    differ by `min_gap` or less are ignored, because such a difference may be rater noise.

    Args:
        score: predicted scores, (B,).
        target: human scores in [0, 1], (B,).
        temperature: > 0, in units of the score.
        min_gap: >= 0, in units of the target.

    Returns:
        scalar >= 0; 0 if no pair counts.
    """
    better = (target.unsqueeze(1) - target.unsqueeze(0)) > min_gap
    losses = softplus(-(score.unsqueeze(1) - score.unsqueeze(0)) / temperature)
    return (losses * better).sum() / better.sum().clamp(min=1)


def entailment_loss(
    exterior_angle: Tensor, half_aperture: Tensor, target: Tensor, form: str | None, contraction: float = 0.8
) -> Tensor:
    """Entailment loss with an aperture that the human score s in [0, 1] narrows: delta(s) = delta (1 - contraction s).

    paper      max(0, phi - delta(s)); this also pulls bad images (s = 0) into the cone
    weighted   s max(0, phi - delta(s)); this ignores bad images
    two_sided  s max(0, phi - delta(s)) + (1 - s) max(0, delta - phi); this pushes bad images out of the full cone
    compositional  as two_sided, of images; `nesting_loss` adds that shorter prompts' cones hold the prompt

    delta(s) is our reading of the paper's "0.8 controls the largest contraction". "weighted" and "two_sided" are ours.

    Args:
        exterior_angle: phi in radians, (B,).
        half_aperture: delta in radians, (B,).
        target: human scores s, (B,).
        form: one of the above; None returns 0.
        contraction: in [0, 1).

    Returns:
        scalar >= 0 in radians, the mean over pairs.

    Raises:
        ValueError: `form` is unknown.
    """
    if form is None:
        return exterior_angle.new_zeros(())
    pull = torch.relu(exterior_angle - half_aperture * (1 - contraction * target))
    if form == "paper":
        return pull.mean()
    if form == "weighted":
        return (target * pull).mean()
    if form in ("two_sided", "compositional"):
        return (target * pull + (1 - target) * torch.relu(half_aperture - exterior_angle)).mean()
    known = "'paper', 'weighted', 'two_sided', 'compositional' or None"
    raise ValueError(f"Expected entailment to be {known} but got {form!r}")


def nesting_loss(angle: Tensor, aperture: Tensor, foreign_angle: Tensor, foreign_aperture: Tensor) -> Tensor:
    """A shorter prompt's cone holds the prompt, another prompt's shorter one does not; in the spirit of HyCoCLIP.

    max(0, phi - delta + m) + max(0, delta' - phi' + m), m = 0.1 radians. Without the second part the loss is least
    where all cones are half-spaces, and says nothing any more. Form and margin are ours.

    Args:
        angle, aperture: phi and delta of the shorter prompts' cones and the prompts, radians, (B,).
        foreign_angle, foreign_aperture: the same of shorter prompts that the prompts do not imply, (B,).

    Returns:
        scalar >= 0, radians; 0 for B = 0.
    """
    hold = torch.relu(angle - aperture + _NESTING_MARGIN)
    exclude = torch.relu(foreign_aperture - foreign_angle + _NESTING_MARGIN)
    return (hold + exclude).sum() / max(1, len(angle))


def saturated_share(half_aperture: Tensor) -> Tensor:
    """Share of cones with a half-aperture of pi/2, in [0, 1]. Near 1, the texts have collapsed towards the origin."""
    return (half_aperture > math.pi / 2 - 1e-3).to(half_aperture.dtype).mean()


@dataclass(frozen=True)
class Objective:
    """The training loss: regression + lambda_rank * ranking + lambda_ent * entailment.

    A part with weight 0 is reported but does not enter the loss.

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
        """The objective with the weights and the entailment form of a model's config."""
        return cls(config.lambda_rank, config.lambda_ent, config.entailment, config.contraction)

    def __call__(
        self,
        score: Tensor,
        exterior_angle: Tensor,
        half_aperture: Tensor,
        target: Tensor,
        nesting: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The scalars `loss`, `regression`, `ranking` and `entailment` of B pairs; every argument is (B,).

        `nesting` is the value of `nesting_loss` for the prompts; it is added to the entailment.
        """
        parts = {
            "regression": regression_loss(score, target),
            "ranking": ranking_loss(score, target),
            "entailment": entailment_loss(exterior_angle, half_aperture, target, self.entailment, self.contraction),
        }
        if nesting is not None:
            parts["entailment"] = parts["entailment"] + nesting
        loss = parts["regression"]
        for weight, name in ((self.lambda_rank, "ranking"), (self.lambda_ent, "entailment")):
            if weight != 0:
                loss = loss + weight * parts[name]
        return {"loss": loss, **parts}
