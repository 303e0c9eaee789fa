"""The interface between a model and trainer, updates and evaluation: the `Policy` protocol, `Trajectory`, seeds.

A model family is one file in this folder with a class that implements `Policy`, and a line in `rl.models.families`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from rl.sampling.step import Step


@dataclass
class Trajectory:
    """Rollouts of N pictures over T steps.

    latents: (T+1,N,...) float32, from noise to picture, in the shape of the denoiser's input.
    log_probs: (T,N), 0 for a deterministic step.
    means: (T,N,...), the means of the stochastic steps; None if they are not needed.
    """

    latents: torch.Tensor
    log_probs: torch.Tensor
    prompts: list[str]
    guidance_scale: float
    means: torch.Tensor | None = None


class Policy(Protocol):
    """A diffusion model as an RL policy: denoising steps are the actions, the denoiser's LoRA is trained.

    pipeline: the diffusers pipeline. denoiser: its module with the LoRA. trained: the module that gradients flow
    through; the trainer replaces it with a wrapper that synchronises gradients between processes. steps: the sampler's
    steps, noisiest first. rows_evaluated: number of rows that the denoiser has evaluated so far. lora_targets: layers
    that get a LoRA if the config names none. latent_shape: of one picture.

    `conditioning` returns a type of the model family. Callers only pass it back to the other methods.
    """

    pipeline: Any
    denoiser: torch.nn.Module
    trained: Any
    steps: Sequence[Step]
    rows_evaluated: int
    lora_targets: Sequence[str]
    latent_shape: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Device of the denoiser."""

    def conditioning(self, prompts: Sequence[str], guidance_scale: float) -> Any:
        """The denoiser's conditioning for N pictures."""

    def rollout(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance_scale: float,
        *,
        out: Trajectory | None = None,
        start: int = 0,
        log_probs: bool = True,
        log_prob_guidance: float | None = None,
        num_steps: int | None = None,
    ) -> Trajectory:
        """Sample N pictures' latents without a gradient. The noise of a picture depends only on its seed.

        Args:
            prompts: N texts.
            seeds: N seeds.
            guidance_scale: <= 1: no guidance.
            out: trajectory to write to, from picture `start` on; None: a new one.
            start: see `out`.
            log_probs: whether to compute log-probs; False is faster if only the pictures are needed.
            log_prob_guidance: guidance scale for the log-probs; None: `guidance_scale`.
            num_steps: number of steps to make; None: all. The rest of `out.latents` then holds the noise of the
                steps that were not made.
        """

    def empty_trajectory(self, count: int, guidance_scale: float) -> Trajectory:
        """An empty trajectory for `count` pictures."""

    def means(
        self, indices: Sequence[int], latents: torch.Tensor, conditioning: Any, guidance_scale: float,
        denoiser: Any = None,
    ) -> torch.Tensor:
        """Means (K,N,...) of the next latents for K steps from `latents` (K,N,...), in one forward pass.

        conditioning: of the N prompts, repeated K times. denoiser: None: `trained`, with a gradient.
        """

    def base_means(
        self, indices: Sequence[int], latents: torch.Tensor, conditioning: Any, guidance_scale: float
    ) -> torch.Tensor:
        """`means` of the base model, without a gradient."""

    def transition(
        self, index: int, latents: torch.Tensor, conditioning: Any, guidance_scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Step `index` from latents (N,...) with the unwrapped denoiser: the clean prediction and the next mean."""

    def predict_clean(
        self, level: float | torch.Tensor, latents: torch.Tensor, conditioning: Any, guidance_scale: float,
        denoiser: Any = None,
    ) -> torch.Tensor:
        """The clean latents (N,...) that the denoiser predicts from `latents` at a noise level, a number or (N,).

        denoiser: None: `trained`, with a gradient.
        """

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, level: float | torch.Tensor) -> torch.Tensor:
        """Add noise to clean latents (N,...). The level has the unit of a step's `level`, a number or (N,)."""

    def level_at(self, shares: torch.Tensor) -> torch.Tensor:
        """Noise levels (N,) at shares (N,) in [0,1] of the way from clean latents to pure noise."""

    def noise_scale(self, level: float | torch.Tensor, like: torch.Tensor) -> float | torch.Tensor:
        """Standard deviation of the noise at a level: a number, or (N,1,...), which broadcasts with latents `like`.

        The clean prediction's error divided by it is the velocity's error.
        """

    def distance_to_base(
        self, index: int, latents: torch.Tensor, conditioning: Any, guidance_scale: float
    ) -> torch.Tensor:
        """Mean squared difference between the outputs of denoiser and base model at step `index`; has a gradient."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents (N,...) to pictures (N,3,H,W) float32 in [0,1]. Saturated pixels have a gradient too."""

    def base_model(self) -> AbstractContextManager[None]:
        """Within the context the LoRA is off and the policy is exactly the base model."""


def sample_seed(seed: int, *key: int) -> int:
    """Seed of one picture's noise, a function of the run's seed and a key such as (epoch, index)."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32; float32 and float64 stay as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
