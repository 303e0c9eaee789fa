"""One stochastic DDIM step: mean, standard deviation, clean prediction. Pure functions.

Formulas (12) and (16) of Song et al., "Denoising Diffusion Implicit Models" (arXiv:2010.02502), with the cumulative
products a_t (this step) and a_s (next, less noisy step):

    sigma^2 = eta^2 (1 - a_s) / (1 - a_t) (1 - a_t / a_s)
    mean    = sqrt(a_s) x0 + sqrt(1 - a_s - sigma^2) eps            x0, eps: from the model's output
    next    = mean + sigma noise

The constants of all steps are computed once, in float64, as Python floats.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch

from rl.sampling.step import ZERO_SIGMA

_PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class DDIMStep:
    """Constants of one step.

    signal: sqrt(a_t). noise: sqrt(1 - a_t). next_signal: sqrt(a_s). direction: sqrt(1 - a_s - sigma^2). clip: x0 is
    clamped to +- this; None: not clamped.
    """

    timestep: int
    signal: float
    noise: float
    next_signal: float
    direction: float
    sigma: float
    prediction_type: str
    clip: float | None

    @property
    def level(self) -> int:
        """The timestep."""
        return self.timestep

    @property
    def is_stochastic(self) -> bool:
        """Whether the step adds noise. Only then does it have a log-prob and can be trained on."""
        return self.sigma > ZERO_SIGMA

    @property
    def output_sensitivity(self) -> float:
        """|d mean / d model output| / sigma, the scale of the log-prob's gradient with respect to the model output."""
        if self.prediction_type == "epsilon":
            slope = self.direction - self.next_signal * self.noise / self.signal
        elif self.prediction_type == "v_prediction":
            slope = self.direction * self.signal - self.next_signal * self.noise
        else:
            slope = self.next_signal - self.direction * self.signal / self.noise
        return abs(slope) / self.sigma


def as_ddim(scheduler: Any) -> Any:
    """Convert a pipeline's scheduler (PNDM, Euler, DPM-Solver ...) to a `DDIMScheduler` with the same noise levels.

    Raises:
        ValueError: the scheduler has no beta schedule (EDM, flow matching), or a prediction type that DDIM lacks.

    Example:
        >>> as_ddim(EulerDiscreteScheduler(beta_schedule="scaled_linear")).config.clip_sample
        False
    """
    from diffusers import DDIMScheduler

    # Keep the scheduler's own defaults too. _use_default_values would make from_config replace them by DDIM's defaults.
    config = {name: value for name, value in scheduler.config.items() if name != "_use_default_values"}
    if "beta_schedule" not in config:
        raise ValueError(
            f"Expected a scheduler with a beta schedule, got {type(scheduler).__name__}, whose noise levels DDIM "
            "cannot use. Use a base model with a beta schedule, such as SD 1.x, SD 2.x or SDXL 1.0."
        )
    if config.get("prediction_type", "epsilon") not in _PREDICTION_TYPES:
        raise ValueError(
            f"Expected prediction type {', '.join(_PREDICTION_TYPES)}, got {config['prediction_type']!r} in "
            f"{type(scheduler).__name__}. Use another base model."
        )
    # Latents leave [-1, 1], and schedulers without this option never clip x0. DDIM's default would clip it.
    config.setdefault("clip_sample", False)
    return DDIMScheduler.from_config(config)


def ddim_steps(scheduler: Any, num_steps: int, eta: float) -> list[DDIMStep]:
    """The steps of a diffusers `DDIMScheduler`, noisiest first.

    Args:
        scheduler: prediction epsilon, v_prediction or sample; spacing leading, linspace or trailing.
        num_steps: at most the scheduler's number of training steps.
        eta: 0 deterministic, 1 as noisy as DDPM.

    Raises:
        ValueError: dynamic thresholding, or epsilon prediction with zero terminal SNR, for which the first step would
            divide by sqrt(a_t) = 0.

    Example:
        >>> steps = ddim_steps(DDIMScheduler(), 10, eta=1.0)
        >>> steps[0].timestep, steps[-1].is_stochastic
        (900, False)
    """
    config = scheduler.config
    if config.thresholding:
        raise ValueError(
            "Expected a scheduler with thresholding=False, got True: with dynamic thresholding a step's log-prob has "
            "no closed form. Set thresholding to false in scheduler_config.json; latent models do not need it."
        )
    scheduler.set_timesteps(num_steps)
    products = scheduler.alphas_cumprod.double().tolist()
    final = float(scheduler.final_alpha_cumprod)
    stride = config.num_train_timesteps // num_steps
    steps = []
    for timestep in scheduler.timesteps.tolist():
        now = products[timestep]
        after = products[timestep - stride] if timestep >= stride else final
        if now == 0.0 and config.prediction_type == "epsilon":
            raise ValueError(
                "Expected a scheduler whose noisiest step has some signal, got zero terminal SNR with epsilon "
                "prediction, which cannot predict x0 from pure noise. Use a v_prediction model, or "
                "rescale_betas_zero_snr=false, or timestep_spacing='leading'."
            )
        # Clamp at 0: rounding can make these values negative if they are exactly 0 (zero terminal SNR, last step).
        variance = max((1 - after) / (1 - now) * (1 - now / after), 0.0)
        sigma = eta * math.sqrt(variance)
        steps.append(
            DDIMStep(
                timestep=timestep,
                signal=math.sqrt(now),
                noise=math.sqrt(1 - now),
                next_signal=math.sqrt(after),
                direction=math.sqrt(max(1 - after - sigma**2, 0.0)),
                sigma=sigma,
                prediction_type=config.prediction_type,
                clip=config.clip_sample_range if config.clip_sample else None,
            )
        )
    return steps


def step_mean(step: DDIMStep, model_output: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Mean of the next latents, (B,C,H,W); differentiable in `model_output` and `latents`."""
    clean, eps = _clean_and_noise(step, model_output, latents)
    return step.next_signal * clean + step.direction * eps


def clean_prediction(step: DDIMStep, model_output: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """The predicted x0, (B,C,H,W); differentiable in `model_output` and `latents`."""
    return _clean_and_noise(step, model_output, latents)[0]


def clean_from_output(
    prediction_type: str,
    signal: float | torch.Tensor,
    noise: float | torch.Tensor,
    model_output: torch.Tensor,
    latents: torch.Tensor,
    clip: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x0, eps), each (B,C,H,W), from a model's output for latents = signal x0 + noise eps.

    Args:
        prediction_type: epsilon, v_prediction (signal eps - noise x0) or sample.
        signal: sqrt(a_t), a number or (B,1,1,1).
        noise: sqrt(1 - a_t), a number or (B,1,1,1).
        model_output: (B,C,H,W).
        latents: (B,C,H,W).
        clip: x0 is clamped to +- this; None: not clamped.

    Raises:
        ValueError: unknown prediction type.
    """
    if prediction_type == "epsilon":
        clean = (latents - noise * model_output) / signal
        eps = model_output
    elif prediction_type == "v_prediction":
        clean = signal * latents - noise * model_output
        eps = signal * model_output + noise * latents
    elif prediction_type == "sample":
        clean = model_output
        eps = (latents - signal * clean) / noise
    else:
        raise ValueError(f"Expected prediction type epsilon, v_prediction or sample, got {prediction_type!r}.")
    if clip is not None:
        clean = clean.clamp(-clip, clip)
    return clean, eps


def _clean_and_noise(
    step: DDIMStep, model_output: torch.Tensor, latents: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return clean_from_output(step.prediction_type, step.signal, step.noise, model_output, latents, step.clip)
