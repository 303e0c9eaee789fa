"""One step of a flow-matching sampler: mean and standard deviation. Pure functions.

Latents x_s = (1 - s) x0 + s eps, s from 1 to 0; the model predicts the velocity v = eps - x0; dt = s_next - s < 0;
noise level a. Flow-GRPO: arXiv:2505.05470, DanceGRPO: 2505.07818, Flow-CPS: 2509.05952.

    ode      next = x + v dt
    sde      g = a sqrt(s / (1 - s)), its 1 - s from the second sigma where s = 1                       Flow-GRPO
             mean = x (1 + g^2 dt / (2 s)) + v (1 + g^2 (1 - s) / (2 s)) dt;   std = g sqrt(-dt)
    dance    mean = x + (v + a^2 (x - (1 - s) (x - s v)) / (2 s^2)) dt;        std = a sqrt(-dt)        DanceGRPO
    cps      std = s_next sin(a pi / 2)                                                                 Flow-CPS
             mean = (x - s v) (1 - s_next) + (x + (1 - s) v) sqrt(s_next^2 - std^2)

Every mean is linear in x and v: a step holds the two factors, worked out once as Python floats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from rl.sampling.step import ZERO_SIGMA

FlowSampler = Literal["ode", "sde", "dance", "cps"]


@dataclass(frozen=True)
class FlowStep:
    """Constants of a step from `level` (s) to `next_level`: mean = from_latents x + from_velocity v; sigma: its std."""

    level: float
    next_level: float
    from_latents: float
    from_velocity: float
    sigma: float

    @property
    def is_stochastic(self) -> bool:
        """Whether the step has a density, that is: whether it can be trained on."""
        return self.sigma > ZERO_SIGMA

    @property
    def output_sensitivity(self) -> float:
        """|d mean / d velocity| / sigma: how strongly the log-prob's gradient reaches the model's output."""
        return abs(self.from_velocity) / self.sigma


def flow_step(level: float, next_level: float, sampler: FlowSampler, noise_level: float, second: float) -> FlowStep:
    """The constants of one step.

    Args:
        level: s in (0, 1].
        next_level: s_next in [0, s).
        sampler: see the formulas above.
        noise_level: a; CPS wants it in [0, 1].
        second: the schedule's second sigma, which keeps the first SDE step finite.

    Raises:
        ValueError: levels out of order, or an unknown sampler.

    Example:
        >>> flow_step(0.5, 0.4, "ode", 0.0, 0.9).from_velocity
        -0.09999999999999998
    """
    if not 0 <= next_level < level <= 1:
        raise ValueError(f"Expected falling noise levels between 1 and 0, got {level} and then {next_level}.")
    dt, a = next_level - level, noise_level
    if sampler == "ode":
        return FlowStep(level, next_level, 1.0, dt, 0.0)
    if sampler == "sde":
        variance = a * a * level / (1 - (second if level == 1 else level))
        return FlowStep(
            level, next_level, 1 + variance * dt / (2 * level),
            (1 + variance * (1 - level) / (2 * level)) * dt, math.sqrt(variance * -dt),
        )  # fmt: skip
    if sampler == "dance":
        # x - (1 - s)(x - s v) = s x + s (1 - s) v
        pull = a * a / (2 * level)
        return FlowStep(
            level, next_level, 1 + pull * dt, (1 + pull * (1 - level)) * dt, a * math.sqrt(-dt),
        )  # fmt: skip
    if sampler == "cps":
        sigma = next_level * math.sin(a * math.pi / 2)
        rest = math.sqrt(max(next_level**2 - sigma**2, 0.0))
        return FlowStep(
            level, next_level, 1 - next_level + rest, -level * (1 - next_level) + (1 - level) * rest, sigma
        )  # fmt: skip
    raise ValueError(f"Expected sampler ode, sde, dance or cps, got {sampler!r}.")


def flow_steps(
    sigmas: Sequence[float], sampler: FlowSampler, noise_level: float, window: tuple[float, float] = (0.0, 1.0)
) -> list[FlowStep]:
    """The steps of a schedule; those outside a window of shares of all steps are ODE steps (MixGRPO, Flow-GRPO-Fast).

    Args:
        sigmas: T + 1 falling noise levels, the last one 0.
        sampler: inside the window.
        noise_level: a.
        window: from and to, 0 the noisiest.

    Raises:
        ValueError: fewer than two levels, or levels out of order.

    Example:
        >>> [step.is_stochastic for step in flow_steps([1.0, 0.75, 0.5, 0.0], "sde", 0.7, (0.0, 0.5))]
        [True, True, False]
    """
    if len(sigmas) < 2:
        raise ValueError(f"Expected at least two noise levels, got {list(sigmas)}.")
    total = len(sigmas) - 1
    low, high = (round(share * total) for share in window)
    # The last step is never stochastic: its noise would stay in the picture.
    high = min(high, total - 1)
    return [
        flow_step(level, after, sampler if low <= index < high else "ode", noise_level, sigmas[1])
        for index, (level, after) in enumerate(zip(sigmas, sigmas[1:], strict=False))
    ]


def flow_mean(step: FlowStep, velocity: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Mean of the next latents, (B,...); differentiable in `velocity` and `latents`."""
    if step.from_latents == 1.0:
        return latents + step.from_velocity * velocity
    return step.from_latents * latents + step.from_velocity * velocity


def clean_latents(
    level: float | torch.Tensor, velocity: torch.Tensor, latents: torch.Tensor
) -> torch.Tensor:
    """x0 = x - s v, (B,...): what a velocity means for latents of a noise level, a number or (B,1,...)."""
    return latents - level * velocity
