"""Denoising steps of any sampler: Gaussian transitions, their log-probs and KL divergences."""

import math
from typing import Protocol

import torch

# A step with less noise counts as deterministic. float32 latents cannot hold less, and log-probs divide by sigma^2.
ZERO_SIGMA = 1e-6


class Step(Protocol):
    """Constants of one denoising step of any sampler.

    sigma: standard deviation of the step's noise. level: noise level of the latents before the step, in the model's own
    unit, for `Policy.add_noise` and `Policy.predict_clean`.
    """

    @property
    def sigma(self) -> float: ...

    @property
    def level(self) -> float: ...

    @property
    def is_stochastic(self) -> bool:
        """Whether the step adds noise. Only then does it have a log-prob and can be trained on."""

    @property
    def output_sensitivity(self) -> float:
        """|d mean / d model output| / sigma, the scale of the log-prob's gradient with respect to the model output."""


def log_prob(step: Step, mean: torch.Tensor, next_latents: torch.Tensor) -> torch.Tensor:
    """Log-prob (B,) of a transition: mean over latent dimensions of log N(next_latents; mean, sigma^2).

    Raises:
        ValueError: the step is deterministic.
    """
    _check_stochastic(step)
    constant = math.log(step.sigma) + 0.5 * math.log(2 * math.pi)
    squares = (next_latents.float() - mean.float()).square().flatten(1).mean(1)
    return squares * (-0.5 / step.sigma**2) - constant


def kl_divergence(step: Step, mean: torch.Tensor, base_mean: torch.Tensor) -> torch.Tensor:
    """KL divergence (B,) of N(mean, sigma^2) from N(base_mean, sigma^2), mean over latent dimensions like `log_prob`.

    (mean - base_mean)^2 / (2 sigma^2), because both have the step's sigma.

    Raises:
        ValueError: the step is deterministic.
    """
    _check_stochastic(step)
    return (mean.float() - base_mean.float()).square().flatten(1).mean(1) * (0.5 / step.sigma**2)


def _check_stochastic(step: Step) -> None:
    if not step.is_stochastic:
        raise ValueError(f"Expected a stochastic step, got sigma = {step.sigma:.1e} at noise level {step.level}.")
