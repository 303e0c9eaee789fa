"""What trainer, updates and evaluation know of a model: the `Policy` protocol, a rollout's `Trajectory`, seeds.

A model family is one file beside this one that fulfils the protocol, and a line in `rl.models.families`.
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

    latents: (T+1,N,...) float32, noise first, picture last, in the shape that the model's denoiser takes;
    log_probs: (T,N), 0 where a step has no density.
    """

    latents: torch.Tensor
    log_probs: torch.Tensor
    prompts: list[str]
    guidance_scale: float


class Policy(Protocol):
    """Denoising steps as actions, the denoiser's LoRA as what is learned.

    pipeline: the diffusers pipeline. denoiser: its module that carries the LoRA. trained: the module that gradients
    flow through; the trainer replaces it with the wrapped one, so that they are synchronised between processes.
    steps: the sampler's, noisiest first. rows_evaluated: the denoiser's evaluations so far, one a row, whatever the
    machine. lora_targets: the layers that get a LoRA where the config names none. latent_shape: of one picture.

    `conditioning` is the family's own; it is made here, handed back to the other methods, and not looked into.
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
        """Where the denoiser is."""

    def conditioning(self, prompts: Sequence[str], guidance_scale: float) -> Any:
        """What the denoiser is told of N pictures."""

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
        """Sample pictures' latents without a gradient, one seed a picture; noise depends on the seed alone.

        Args:
            prompts: N texts.
            seeds: N seeds.
            guidance_scale: <= 1: none.
            out: a trajectory with room, filled from picture `start` on; None: a new one.
            start: see `out`.
            log_probs: whether they are computed; pictures alone do not need them.
            log_prob_guidance: guidance under which log-probs are taken; None: that of sampling.
            num_steps: how many steps are made; what follows them in `out.latents` still is the noise of the steps
                left. None: all.
        """

    def empty_trajectory(self, count: int, guidance_scale: float) -> Trajectory:
        """Room for `count` pictures."""

    def means(
        self, indices: Sequence[int], latents: torch.Tensor, conditioning: Any, guidance_scale: float,
        denoiser: Any = None,
    ) -> torch.Tensor:
        """(K,N,...): where K steps lead from `latents` (K,N,...) without their noise, in one forward pass.

        conditioning: that of the N prompts, K times over. denoiser: None: the one that gradients flow through.
        """

    def base_means(
        self, indices: Sequence[int], latents: torch.Tensor, conditioning: Any, guidance_scale: float
    ) -> torch.Tensor:
        """`means` of the base model, without a gradient."""

    def transition(
        self, index: int, latents: torch.Tensor, conditioning: Any, guidance_scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Step `index` from latents (N,...) through the bare denoiser: the clean prediction, and the next mean."""

    def predict_clean(
        self, level: float | torch.Tensor, latents: torch.Tensor, conditioning: Any, guidance_scale: float,
        denoiser: Any = None,
    ) -> torch.Tensor:
        """The clean latents (N,...) that the denoiser sees in `latents` of a noise level, a number or (N,).

        denoiser: None: the one that gradients flow through.
        """

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, level: float | torch.Tensor) -> torch.Tensor:
        """Clean latents (N,...) noised to a level: a number, as a step's `level`, or (N,) of them."""

    def level_at(self, shares: torch.Tensor) -> torch.Tensor:
        """(N,): noise levels at shares (N,) in [0,1] of the way from clean latents to pure noise."""

    def noise_scale(self, level: float | torch.Tensor, like: torch.Tensor) -> float | torch.Tensor:
        """Standard deviation of the noise in latents of a level: a number, or (N,1,...) to multiply latents `like`.

        An error of the clean prediction divided by it is the velocity's error.
        """

    def distance_to_base(
        self, index: int, latents: torch.Tensor, conditioning: Any, guidance_scale: float
    ) -> torch.Tensor:
        """Mean squared difference of the denoiser's output at step `index` from the base model's; has a gradient."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (N,3,H,W) float32 in [0,1] of latents (N,...); saturated pixels pass gradients on."""

    def base_model(self) -> AbstractContextManager[None]:
        """Inside, the LoRA is off: the policy is the base model, bit for bit."""


def sample_seed(seed: int, *key: int) -> int:
    """Seed of one picture's noise: a function of the run's seed and of the picture's place, e.g. (epoch, index)."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Half precision becomes float32; float32 and float64 stay."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
