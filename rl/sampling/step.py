"""What every sampler's step has in common: a Gaussian transition, its log-prob and its divergence from another one."""

import math
from typing import Protocol

import torch

# Below that a step adds no noise that float32 latents could hold, and its log-prob would be a division by nothing.
ZERO_SIGMA = 1e-6


class Step(Protocol):
    """Constants of one denoising step, whatever the sampler.

    sigma: standard deviation of the step's noise. level: how noisy the latents are that it starts from, in the model's
    own unit; `Policy.add_noise` and `Policy.predict_clean` take it.
    """

    @property
    def sigma(self) -> float: ...

    @property
    def level(self) -> float: ...

    @property
    def is_stochastic(self) -> bool:
        """Whether the step has a density, that is: whether it can be trained on."""

    @property
    def output_sensitivity(self) -> float:
        """|d mean / d model output| / sigma: how strongly the log-prob's gradient reaches the model's output."""


def log_prob(step: Step, mean: torch.Tensor, next_latents: torch.Tensor) -> torch.Tensor:
    """(B,): mean over latent dimensions of log N(next_latents; mean, sigma^2).

    Raises:
        ValueError: the step has no noise and hence no density.
    """
    _check_stochastic(step)
    constant = math.log(step.sigma) + 0.5 * math.log(2 * math.pi)
    squares = (next_latents.float() - mean.float()).square().flatten(1).mean(1)
    return squares * (-0.5 / step.sigma**2) - constant


def kl_divergence(step: Step, mean: torch.Tensor, base_mean: torch.Tensor) -> torch.Tensor:
    """(B,): KL of N(mean, sigma^2) from N(base_mean, sigma^2), mean over latent dimensions as `log_prob` is.

    (mean - base_mean)^2 / (2 sigma^2): in closed form, since both have the step's sigma.

    Raises:
        ValueError: the step has no noise and hence no density.
    """
    _check_stochastic(step)
    return (mean.float() - base_mean.float()).square().flatten(1).mean(1) * (0.5 / step.sigma**2)


def _check_stochastic(step: Step) -> None:
    if not step.is_stochastic:
        raise ValueError(f"Expected a stochastic step, got sigma = {step.sigma:.1e} at noise level {step.level}.")
