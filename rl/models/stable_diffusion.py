"""Stable Diffusion 1.x, 2.x and XL as a policy: a UNet conditioned on a prompt, sampled with stochastic DDIM."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from rl.config.train_config import TrainConfig
from rl.models.checks import check_pipeline
from rl.models.clamping import clamp_straight_through
from rl.models.conditioning import Conditioning, PromptEncoder, is_sdxl
from rl.models.policy import Trajectory, at_least_float32
from rl.sampling.ddim import DDIMStep, as_ddim, clean_from_output, clean_prediction, ddim_steps, step_mean
from rl.sampling.step import log_prob


class StableDiffusionPolicy:
    """`rl.models.policy.Policy` for Stable Diffusion: DDIM steps are the actions, the UNet's LoRA is trained.

    Rollouts use the unwrapped module, `denoiser`. Gradients flow through `trained`, which a trainer may wrap.

    Args:
        pipeline: a `StableDiffusionPipeline` or `StableDiffusionXLPipeline`; its scheduler is converted to DDIM.
        num_steps: denoising steps.
        eta: DDIM's eta: 0 deterministic, 1 as noisy as DDPM.
        resolution: picture side in pixels; 0: the model's own.
        negative_prompt: for guidance.
    """

    pipeline_classes = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")
    ignored_options = ("flow_sampler", "flow_noise_level", "max_sequence_length")

    def __init__(
        self, pipeline: Any, *, num_steps: int, eta: float = 1.0, resolution: int = 0, negative_prompt: str = ""
    ) -> None:
        check_pipeline(pipeline)
        self.pipeline = pipeline
        self.denoiser = self.trained = pipeline.unet
        self.vae = pipeline.vae
        pipeline.unet.eval()
        pipeline.vae.eval().requires_grad_(False)
        if is_sdxl(pipeline) and pipeline.vae.dtype == torch.float16 and pipeline.vae.config.force_upcast:
            # SDXL's VAE overflows in float16, and the pictures would be black.
            pipeline.vae.float()
        self.scheduler = as_ddim(pipeline.scheduler)
        self.steps: list[DDIMStep] = ddim_steps(self.scheduler, num_steps, eta)
        self.latent_shape = self._latent_shape(resolution)
        height, width = (side * self._vae_factor for side in self.latent_shape[1:])
        self.rows_evaluated = 0
        self.prompt_encoder = PromptEncoder(pipeline, negative_prompt, (height, width))

    @classmethod
    def fits(cls, pipeline: Any) -> bool:
        """Whether this policy supports the pipeline's class."""
        return type(pipeline).__name__ in cls.pipeline_classes

    @classmethod
    def from_config(cls, pipeline: Any, config: TrainConfig) -> "StableDiffusionPolicy":
        """The policy that a run's config describes."""
        return cls(
            pipeline, num_steps=config.sample_num_steps, eta=config.sample_eta, resolution=config.resolution,
            negative_prompt=config.negative_prompts,
        )

    @property
    def device(self) -> torch.device:
        """Device of the UNet."""
        # diffusers' own property searches all modules for offloading hooks, which takes as long as encoding a text.
        return next(self.denoiser.parameters()).device

    @property
    def _vae_factor(self) -> int:
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def _latent_shape(self, resolution: int) -> tuple[int, int, int]:
        factor = self._vae_factor
        side = resolution // factor if resolution else self.denoiser.config.sample_size
        # The UNet halves the side several times. Each time it must be even, or the skip connections do not fit.
        multiple = factor * 2 ** (len(self.denoiser.config.block_out_channels) - 1)
        if resolution and resolution % multiple:
            raise ValueError(
                f"resolution: expected a multiple of {multiple} for this model, got {resolution}. "
                f"Set for example {max(multiple, round(resolution / multiple) * multiple)}."
            )
        return (self.denoiser.config.in_channels, side, side)

    def conditioning(self, prompts: Sequence[str], guidance_scale: float) -> Conditioning:
        """The UNet's conditioning for N pictures: N rows, or with guidance 2N rows, negative prompts first."""
        return self.prompt_encoder.conditioning(prompts, self.device, guided=guidance_scale > 1)

    def predict(
        self,
        denoiser: Any,
        step: DDIMStep | Sequence[DDIMStep] | torch.Tensor,
        latents: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        """Model output with guidance, (N,C,H,W) float32, in one call of the UNet: N rows without guidance, 2N with it.

        step: one step for all rows, or K steps for N / K rows each, or timesteps (N,).
        """
        timestep = step.timestep if isinstance(step, DDIMStep) else _timesteps(step, latents, guidance_scale)
        inputs = latents if guidance_scale <= 1 else torch.cat([latents, latents])
        self.rows_evaluated += len(inputs)
        output = at_least_float32(
            denoiser(
                inputs, timestep, conditioning.embeddings, added_cond_kwargs=conditioning.added, return_dict=False
            )[0]
        )
        if guidance_scale <= 1:
            return output
        negative, positive = output.chunk(2)
        return negative + guidance_scale * (positive - negative)

    @torch.no_grad()
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
        """Sample N pictures' latents. The noise of a picture depends only on its seed, not on the batch.

        Args:
            prompts: N texts.
            seeds: N seeds.
            guidance_scale: <= 1: no guidance, at half the cost per step.
            out: trajectory to write to, from picture `start` on; None: a new one.
            start: see `out`.
            log_probs: whether to compute log-probs; False is faster if only the pictures are needed.
            log_prob_guidance: guidance scale for the log-probs; None: `guidance_scale`.
            num_steps: number of steps to make; None: all. The rest of `out.latents` then holds the noise of the
                steps that were not made.

        Raises:
            ValueError: the number of seeds differs from the number of prompts.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"Expected one seed per prompt, got {len(prompts)} prompts and {len(seeds)} seeds.")
        out = out or self.empty_trajectory(len(prompts), guidance_scale)
        rows = slice(start, start + len(prompts))
        out.prompts[rows] = prompts
        # The buffer first holds the noise of every step. Each step then overwrites its noise with the next latents.
        latents = out.latents[:, rows]
        latents.copy_(self._noise(seeds))
        conditioning = self.conditioning(prompts, guidance_scale)
        behind = guidance_scale if log_prob_guidance is None else log_prob_guidance
        plain = self.conditioning(prompts, behind) if behind != guidance_scale else None
        for index, step in enumerate(self.steps[:num_steps]):
            output = self.predict(self.denoiser, step, latents[index], conditioning, guidance_scale)
            mean = step_mean(step, output, latents[index])
            torch.add(mean, latents[index + 1], alpha=step.sigma, out=latents[index + 1])
            if log_probs and step.is_stochastic:
                if plain is not None:
                    output = self.predict(self.denoiser, step, latents[index], plain, behind)
                    mean = step_mean(step, output, latents[index])
                out.log_probs[index, rows] = log_prob(step, mean, latents[index + 1])
                if out.means is not None:
                    out.means[index, rows] = mean
        return out

    def empty_trajectory(self, count: int, guidance_scale: float) -> Trajectory:
        """An empty trajectory for `count` pictures."""
        num_steps = len(self.steps)
        return Trajectory(
            latents=torch.empty((num_steps + 1, count, *self.latent_shape), device=self.device),
            log_probs=torch.zeros((num_steps, count), device=self.device),
            prompts=[""] * count,
            guidance_scale=guidance_scale,
        )

    def log_prob(
        self,
        index: int,
        latents: torch.Tensor,
        next_latents: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        """Log-prob (N,) of the transition from `latents` to `next_latents` at step `index`; has a gradient."""
        step = self.steps[index]
        output = self.predict(self.trained, step, latents, conditioning, guidance_scale)
        return log_prob(step, step_mean(step, output, latents), next_latents)

    def means(
        self,
        indices: Sequence[int],
        latents: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
        denoiser: Any = None,
    ) -> torch.Tensor:
        """Means (K,N,C,H,W) of the next latents for K steps, in one forward pass of K * N rows.

        Args:
            indices: the K steps.
            latents: (K,N,C,H,W), one set of latents per step.
            conditioning: of the N prompts, repeated K times.
            guidance_scale: <= 1: no guidance.
            denoiser: None: `trained`, with a gradient.
        """
        denoiser = denoiser or self.trained
        steps = [self.steps[index] for index in indices]
        # A single step is passed in the same form as in the rollout, so that rounding is the same.
        asked = steps if len(steps) > 1 else steps[0]
        output = self.predict(denoiser, asked, latents.flatten(0, 1), conditioning, guidance_scale)
        output = output.unflatten(0, latents.shape[:2])
        return torch.stack([step_mean(step, output[k], latents[k]) for k, step in enumerate(steps)])

    @torch.no_grad()
    def base_means(
        self, indices: Sequence[int], latents: torch.Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> torch.Tensor:
        """`means` of the base model, without a gradient."""
        with self.base_model():
            return self.means(indices, latents, conditioning, guidance_scale, self.denoiser)

    def transition(
        self, index: int, latents: torch.Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Step `index` from latents (N,C,H,W) with the unwrapped UNet: the clean prediction and the next mean."""
        step = self.steps[index]
        output = self.predict(self.denoiser, step, latents, conditioning, guidance_scale)
        return clean_prediction(step, output, latents), step_mean(step, output, latents)

    def predict_clean(
        self,
        level: int | torch.Tensor,
        latents: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
        denoiser: Any = None,
    ) -> torch.Tensor:
        """The clean latents (N,C,H,W) that the UNet predicts from `latents` at a timestep, a number or (N,)."""
        timesteps = torch.as_tensor(level, device=latents.device).expand(len(latents))
        output = self.predict(denoiser or self.trained, timesteps, latents, conditioning, guidance_scale)
        config, (signal, noise) = self.scheduler.config, self._signal_and_noise(level, latents)
        clip = config.clip_sample_range if config.clip_sample else None
        return clean_from_output(config.prediction_type, signal, noise, output, latents, clip)[0]

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, level: int | torch.Tensor) -> torch.Tensor:
        """sqrt(a_t) clean + sqrt(1 - a_t) noise at a timestep, a number or (N,)."""
        signal, spread = self._signal_and_noise(level, clean)
        return signal * clean + spread * noise

    def level_at(self, shares: torch.Tensor) -> torch.Tensor:
        """Timesteps (N,) at shares (N,) in [0,1] of the schedule; 1 is the noisiest."""
        last = len(self.scheduler.alphas_cumprod) - 1
        return (shares * last).round().long().clamp(0, last)

    def noise_scale(self, level: int | torch.Tensor, like: torch.Tensor) -> Any:
        """sqrt(1 - a_t) at a timestep: a number, or (N,1,1,1)."""
        return self._signal_and_noise(level, like)[1]

    def _signal_and_noise(self, level: int | torch.Tensor, like: torch.Tensor) -> tuple[Any, Any]:
        products = self.scheduler.alphas_cumprod.double()
        if not isinstance(level, torch.Tensor):
            product = products[level].item()
            return math.sqrt(product), math.sqrt(1 - product)
        own = products.to(like.device)[level.to(like.device)].view(-1, *[1] * (like.dim() - 1))
        return own.sqrt().to(like.dtype), (1 - own).sqrt().to(like.dtype)

    def distance_to_base(
        self, index: int, latents: torch.Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> torch.Tensor:
        """Mean squared difference between the outputs of UNet and base model at step `index`; has a gradient."""
        step = self.steps[index]
        with torch.no_grad(), self.base_model():
            base = self.predict(self.denoiser, step, latents, conditioning, guidance_scale)
        tuned = self.predict(self.trained, step, latents, conditioning, guidance_scale)
        return (tuned.float() - base.float()).square().mean()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents (N,C,h,w) to pictures (N,3,H,W) float32 in [0,1]. Saturated pixels have a gradient too."""
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        scaled = (latents / self.vae.config.scaling_factor + shift).to(self.vae.dtype)
        return clamp_straight_through(at_least_float32(self.vae.decode(scaled, return_dict=False)[0]) * 0.5 + 0.5)

    @contextlib.contextmanager
    def base_model(self) -> Iterator[None]:
        """Within the context the LoRA is off and the policy is exactly the base model."""
        self.denoiser.disable_adapters()
        try:
            yield
        finally:
            self.denoiser.enable_adapters()

    def _noise(self, seeds: Sequence[int]) -> torch.Tensor:
        # Drawn on the CPU for every device, so that a seed gives the same picture everywhere.
        shape = (len(self.steps) + 1, *self.latent_shape)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows, dim=1).to(self.device)


def _timesteps(steps: Sequence[DDIMStep] | torch.Tensor, latents: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    # One timestep per row of the UNet's input. Guidance doubles the rows.
    rows = steps
    if not isinstance(steps, torch.Tensor):
        rows = torch.tensor([step.timestep for step in steps]).repeat_interleave(len(latents) // len(steps))
    return (rows if guidance_scale <= 1 else rows.repeat(2)).to(latents.device)
