"""Policy for any diffusers text-to-image pipeline with a flow-matching scheduler, without code for its family.

What the pipeline passes to its transformer is learned from a recorded call (`rl.models.flow_facts`). Rollouts go
through the pipeline's own `__call__`; training calls the transformer with the recorded arguments, other latents and
another timestep.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from rl.config.ddpo_config import DDPOConfig
from rl.config.direct_config import DirectConfig
from rl.config.forward_config import ForwardConfig
from rl.config.train_config import TrainConfig
from rl.models.flow_call import Finished, PipelineCall
from rl.models.flow_conditioning import FlowConditioner, FlowConditioning
from rl.models.flow_facts import Facts, learn
from rl.models.flow_scheduler import as_flow, is_flow
from rl.models.policy import Trajectory
from rl.sampling.flow import FlowSampler, FlowStep, clean_latents, flow_mean, flow_steps
from rl.sampling.step import log_prob

# Attention projections by the names that diffusers gives them; those that a transformer has get the LoRA.
_PROJECTIONS = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "to_qkv_mlp_proj",
)  # fmt: skip
_SMALLEST_LEVEL = 1e-3  # below it a picture is as good as clean, and a velocity error would be divided by nothing


class FlowPolicy:
    """Steps of a flow-matching sampler as actions, the transformer's LoRA as what is learned; see `Policy`.

    A step's `level` is sigma, 1 for pure noise. Rollouts without log-probs take the scheduler's deterministic steps;
    with log-probs the steps inside `window` are stochastic. Only rollouts use guidance, and the pipeline applies it.

    Args:
        pipeline: a diffusers text-to-image pipeline with a `transformer` and a flow-matching scheduler.
        num_steps: denoising steps.
        sampler: of the steps inside the window.
        noise_level: of the sampler.
        window: shares of all steps, from and to; 0 is the noisiest.
        resolution: picture side in pixels; 0: the pipeline's own.
        negative_prompt: negative prompt for guidance.
        max_sequence_length: text tokens; 0: the pipeline's own.

    Raises:
        ValueError: the pipeline does not fit; the message says what was seen.

    Example:
        >>> policy = FlowPolicy(FluxPipeline.from_pretrained(folder), num_steps=10, sampler="sde", resolution=512)
    """

    pipeline_classes = ("any that has a transformer and a flow-matching scheduler",)
    ignored_options = ("sample_eta",)

    def __init__(
        self,
        pipeline: Any,
        *,
        num_steps: int,
        sampler: FlowSampler = "ode",
        noise_level: float = 0.7,
        window: tuple[float, float] = (0.0, 1.0),
        resolution: int = 0,
        negative_prompt: str = "",
        max_sequence_length: int = 0,
    ) -> None:
        self.pipeline = pipeline
        self.denoiser = self.trained = pipeline.transformer
        for module in pipeline.components.values():
            if isinstance(module, torch.nn.Module):
                module.eval().requires_grad_(False)
        pipeline.scheduler = as_flow(pipeline.scheduler)
        self.call = PipelineCall(pipeline, resolution, negative_prompt, max_sequence_length)
        self.facts: Facts = learn(self.call)
        sigmas, self._timesteps = self._schedule(num_steps)
        self.steps: list[FlowStep] = flow_steps(sigmas, sampler, noise_level, window)
        self._plain_steps = flow_steps(sigmas, "ode", 0.0)
        self.latent_shape = self.facts.latent_shape
        self.lora_targets = _projections(self.denoiser)
        self.rows_evaluated = 0
        self.conditioner = FlowConditioner(self.call, self.facts, num_steps, self._timesteps[sigmas[0]])

    @classmethod
    def fits(cls, pipeline: Any) -> bool:
        """Whether a pipeline has a transformer and a flow-matching scheduler."""
        has_transformer = isinstance(getattr(pipeline, "transformer", None), torch.nn.Module)
        return has_transformer and is_flow(getattr(pipeline, "scheduler", None))

    @classmethod
    def from_config(cls, pipeline: Any, config: TrainConfig) -> "FlowPolicy":
        """The policy that a run's config describes.

        Raises:
            ValueError: guidance in a training pass, or a penalty that has no meaning here.
        """
        _check_config(type(pipeline).__name__, config)
        stochastic = {}
        if isinstance(config, DDPOConfig):
            stochastic = {
                "sampler": config.flow_sampler, "noise_level": config.flow_noise_level,
                "window": tuple(config.train_step_window),
            }  # fmt: skip
        return cls(
            pipeline, num_steps=config.sample_num_steps, resolution=config.resolution,
            negative_prompt=config.negative_prompts, max_sequence_length=config.max_sequence_length, **stochastic,
        )

    @property
    def device(self) -> torch.device:
        """Where the transformer lives."""
        return next(self.denoiser.parameters()).device

    def conditioning(self, prompts: Sequence[str], guidance_scale: float) -> FlowConditioning:
        """What the transformer is told of N pictures; each text is encoded once, beside the others of its batch.

        Raises:
            ValueError: guidance is on, which a training pass does not have here.
        """
        if guidance_scale > 1:
            raise ValueError(
                f"Expected guidance off where {self.call.name} is trained, got {guidance_scale:g}: with it the "
                "pipeline may call the transformer more than once. Set train_guidance_scale (DDPO, direct: "
                "sample_guidance_scale) to 1."
            )
        return self.conditioner(prompts)

    def predict(
        self, denoiser: Any, levels: float | torch.Tensor, latents: torch.Tensor, conditioning: FlowConditioning
    ) -> torch.Tensor:
        """Velocity (N,...) float32 at a noise level, a number or (N,), in one call of the transformer."""
        facts = self.facts
        rows = [levels] * len(latents) if not isinstance(levels, torch.Tensor) else levels.tolist()
        # At the sampler's levels: exactly the pipeline's values, whose rounding differs from the formula's.
        values = [self._timesteps.get(level, facts.timestep_at(level)) for level in rows]
        timesteps = torch.tensor(values, dtype=facts.timestep_dtype, device=latents.device)
        self.rows_evaluated += len(latents)
        inputs = {facts.latents: facts.argument(latents), facts.timestep: timesteps}
        velocity = facts.velocity(denoiser(**conditioning.arguments, **inputs))
        if denoiser is self.denoiser or not torch.is_grad_enabled():
            return velocity
        # DistributedDataParallel waits for a gradient of every LoRA weight, and Qwen-Image's last block has a
        # projection whose output is not used.
        return velocity + 0.0 * sum(p.sum() for p in self.denoiser.parameters() if p.requires_grad)

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
        """Sample pictures' latents by the pipeline's own `__call__`; see `Policy.rollout`.

        Raises:
            ValueError: not one seed a prompt, log-probs under guidance, or a call unlike the recorded one.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"Expected one seed a prompt, got {len(prompts)} prompts and {len(seeds)} seeds.")
        if log_probs and (guidance_scale > 1 or (log_prob_guidance or 1) > 1):
            raise ValueError(
                f"sample_guidance_scale: expected at most 1 for log-probs of {self.call.name}, got "
                f"{guidance_scale:g}. Set it to 1; guided evaluation stays possible."
            )
        out = out or self.empty_trajectory(len(prompts), guidance_scale)
        rows = slice(start, start + len(prompts))
        out.prompts[rows] = prompts
        # The buffer first holds the noise of every step; each step then turns its slot into the next latents.
        latents = out.latents[:, rows]
        latents.copy_(self._noise(seeds))
        steps = self.steps if log_probs else self._plain_steps
        last = len(steps) if num_steps is None else num_steps
        if last == 0:
            return out
        guided = guidance_scale > 1
        conditioning = None if guided else self.conditioning(prompts, guidance_scale)
        index, velocity = 0, torch.empty(0)

        def denoise(arguments: dict[str, Any]) -> Any:
            nonlocal velocity
            if guided:
                return self._as_asked(arguments)
            if index == 0:
                self.conditioner.check(arguments, latents[0])
            inputs = {name: arguments[name] for name in (self.facts.latents, self.facts.timestep)}
            inputs[self.facts.latents] = self.facts.argument(latents[index])
            self.rows_evaluated += len(prompts)
            returned = self.denoiser(**conditioning.arguments, **inputs)
            velocity = self.facts.velocity(returned)
            return returned

        def take_step(model_output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
            nonlocal index, velocity
            if index == 0:
                self._check_step(model_output, sample, latents[0], None if guided else velocity)
            if guided:
                velocity = model_output.float()
            step = steps[index]
            mean = flow_mean(step, velocity, latents[index])
            if not step.is_stochastic:
                latents[index + 1].copy_(mean)
            else:
                torch.add(mean, latents[index + 1], alpha=step.sigma, out=latents[index + 1])
                out.log_probs[index, rows] = log_prob(step, mean, latents[index + 1])
                if out.means is not None:
                    out.means[index, rows] = mean
            index += 1
            if index == last:
                raise Finished
            return latents[index]

        # Without guidance the conditioning is known, so the pipeline need not encode these prompts again.
        asked = list(prompts) if guided else len(prompts)
        self.call(asked, len(steps), guidance_scale, denoise=denoise, step=take_step, noise=latents[0])
        if index != last:
            raise ValueError(f"Expected {last} steps of {self.call.name}, got {index}.")
        return out

    def empty_trajectory(self, count: int, guidance_scale: float) -> Trajectory:
        """Room for `count` pictures."""
        num_steps = len(self.steps)
        return Trajectory(
            latents=torch.empty((num_steps + 1, count, *self.latent_shape), device=self.device),
            log_probs=torch.zeros((num_steps, count), device=self.device),
            prompts=[""] * count,
            guidance_scale=guidance_scale,
        )

    def means(
        self, indices: Sequence[int], latents: torch.Tensor, conditioning: FlowConditioning, guidance_scale: float,
        denoiser: Any = None,
    ) -> torch.Tensor:
        """(K,N,...): where K steps lead from `latents` without their noise, in one forward pass of K * N rows."""
        steps = [self.steps[index] for index in indices]
        levels = torch.tensor([step.level for step in steps], dtype=torch.float64).repeat_interleave(latents.shape[1])
        output = self.predict(denoiser or self.trained, levels, latents.flatten(0, 1), conditioning)
        output = output.unflatten(0, latents.shape[:2])
        return torch.stack([flow_mean(step, output[k], latents[k]) for k, step in enumerate(steps)])

    @torch.no_grad()
    def base_means(
        self, indices: Sequence[int], latents: torch.Tensor, conditioning: FlowConditioning, guidance_scale: float
    ) -> torch.Tensor:
        """`means` of the base model, without a gradient."""
        with self.base_model():
            return self.means(indices, latents, conditioning, guidance_scale, self.denoiser)

    def transition(
        self, index: int, latents: torch.Tensor, conditioning: FlowConditioning, guidance_scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Step `index` from latents (N,...) through the bare transformer: the clean prediction, and the next mean."""
        step = self.steps[index]
        velocity = self.predict(self.denoiser, step.level, latents, conditioning)
        return clean_latents(step.level, velocity, latents), flow_mean(step, velocity, latents)

    def predict_clean(
        self, level: float | torch.Tensor, latents: torch.Tensor, conditioning: FlowConditioning,
        guidance_scale: float, denoiser: Any = None,
    ) -> torch.Tensor:
        """x0 = x - s v of latents (N,...) at a noise level, a number or (N,)."""
        velocity = self.predict(denoiser or self.trained, level, latents, conditioning)
        return clean_latents(_column(level, latents), velocity, latents)

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, level: float | torch.Tensor) -> torch.Tensor:
        """(1 - s) clean + s noise at a level, a number or (N,)."""
        level = _column(level, clean)
        return (1 - level) * clean + level * noise

    def level_at(self, shares: torch.Tensor) -> torch.Tensor:
        """(N,): sigma itself, kept off 0."""
        return shares.clamp(_SMALLEST_LEVEL, 1.0)

    def noise_scale(self, level: float | torch.Tensor, like: torch.Tensor) -> float | torch.Tensor:
        """Sigma: a number, or (N,1,...)."""
        return _column(level, like)

    def distance_to_base(
        self, index: int, latents: torch.Tensor, conditioning: FlowConditioning, guidance_scale: float
    ) -> torch.Tensor:
        """Mean squared difference of the velocity at step `index` from the base model's; carries a gradient."""
        level = self.steps[index].level
        with torch.no_grad(), self.base_model():
            base = self.predict(self.denoiser, level, latents, conditioning)
        return (self.predict(self.trained, level, latents, conditioning) - base).square().mean()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (N,3,H,W) float32 in [0,1] of latents (N,...), decoded by the pipeline's own code.

        Raises:
            ValueError: the latents have a gradient and the pipeline's decoding passes none on.
        """
        images = self.call(
            len(latents), 1, 1.0, denoise=self.facts.zeros, step=lambda output, sample: latents, images=True
        )[0]
        if torch.is_grad_enabled() and latents.requires_grad and not images.requires_grad:
            raise ValueError(
                f"Expected a gradient through the decoding of {self.call.name}, got none: train it by DDPO, NFT, "
                "matching or DPO, which need none."
            )
        return images

    @contextlib.contextmanager
    def base_model(self) -> Iterator[None]:
        """Inside, the LoRA is off: the policy is the base model, bit for bit."""
        self.denoiser.disable_adapters()
        try:
            yield
        finally:
            self.denoiser.enable_adapters()

    def _schedule(self, num_steps: int) -> tuple[list[float], dict[float, float]]:
        """The pipeline's own sigmas, 0 at their end, and the timestep at each; its transformer is not called."""
        timesteps: list[float] = []

        def denoise(arguments: dict[str, Any]) -> Any:
            timesteps.append(arguments[self.facts.timestep].flatten()[0].item())
            return self.facts.zeros(arguments)

        def step(output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
            if len(timesteps) == num_steps:
                raise Finished
            return sample

        # Latents in float32: some pipelines round the timestep to their type.
        noise = torch.zeros((1, *self.facts.latent_shape), device=self.device)
        with torch.no_grad():
            self.call(1, num_steps, 1.0, denoise=denoise, step=step, noise=noise)
        sigmas = [float(sigma) for sigma in self.pipeline.scheduler.sigmas]
        return sigmas, dict(zip(sigmas, timesteps, strict=False))

    def _as_asked(self, arguments: dict[str, Any]) -> Any:
        """Call the transformer with the pipeline's own arguments; used with guidance."""
        name, dtype = self.facts.latents, self.facts.dtype
        given = arguments[name]
        given = [row.to(dtype) for row in given] if self.facts.form.rows else given.to(dtype)
        self.rows_evaluated += len(given)
        return self.denoiser(**arguments | {name: given})

    def _check_step(
        self, model_output: torch.Tensor, sample: torch.Tensor, latents: torch.Tensor, velocity: torch.Tensor | None
    ) -> None:
        sigmas = [float(sigma) for sigma in self.pipeline.scheduler.sigmas]
        recorded = [*self._timesteps]
        if sigmas[: len(recorded)] != recorded or not torch.equal(sample, latents):
            raise ValueError(f"Expected the recorded latents and sigmas {recorded} in a rollout, got sigmas {sigmas}.")
        if velocity is not None and not torch.equal(model_output.float(), velocity):
            raise ValueError(
                f"Expected the transformer's output times {self.facts.sign} at the scheduler of {self.call.name}, as "
                "recorded, got another value."
            )

    def _noise(self, seeds: Sequence[int]) -> torch.Tensor:
        # On the CPU whatever the device: a seed then means the same picture everywhere.
        shape = (len(self.steps) + 1, *self.latent_shape)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows, dim=1).to(self.device)


def _check_config(name: str, config: TrainConfig) -> None:
    """Refuse guidance in training passes: only the pipeline's `__call__` has the code for it."""
    if isinstance(config, ForwardConfig):
        field, value = "train_guidance_scale", config.train_guidance_scale
    else:
        field, value = "sample_guidance_scale", config.sample_guidance_scale
    if value > 1 and isinstance(config, (DDPOConfig, DirectConfig, ForwardConfig)):
        raise ValueError(
            f"{field}: expected at most 1 with {name}, got {value:g}: it is trained with guidance off. "
            f"Set {field}: 1.0; eval_guidance_scales may be higher."
        )
    if isinstance(config, DirectConfig) and config.train_kl_weight:
        raise ValueError(
            f"train_kl_weight: expected 0 for direct fine-tuning of {name}, got {config.train_kl_weight:g}: its steps "
            "are deterministic, so they have no divergence from the base model."
        )


def _projections(transformer: torch.nn.Module) -> tuple[str, ...]:
    linear = [name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    return tuple(end for end in _PROJECTIONS if any(name.endswith(f".{end}") for name in linear))


def _column(level: float | torch.Tensor, like: torch.Tensor) -> float | torch.Tensor:
    if not isinstance(level, torch.Tensor):
        return level
    return level.to(like.device, like.dtype).view(-1, *[1] * (like.dim() - 1))
