"""Direct fine-tuning: the reward's own gradient, backpropagated through decoder and denoising steps into the LoRA.

    refl       Xu et al., ImageReward (arXiv:2304.05977): one random late step, through its clean prediction
    draft      Clark et al., DRaFT (arXiv:2309.17400): the last K steps; K = T is the full trajectory
    draft-lv   the same paper: the last step, averaged over copies of the picture with new noise
    alignprop  Prabhudesai et al., AlignProp (arXiv:2310.03739): K is random, drawn once per batch and not per step

Gradients flow through the LoRA at those steps and from step to step through the latents. Earlier steps are sampled
without a graph.
"""

from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from rl.config.direct_config import DirectConfig
from rl.models.policy import Policy
from rl.rewards.augmentation import random_views
from rl.sampling.step import kl_divergence
from rl.updates.experience import Experience, SampledBatch
from rl.updates.optimizer import take_step


class DirectUpdate:
    """Gradient ascent on the reward. The trainer's loop calls `sample` for each batch, which also makes the steps."""

    needs_gradients = True

    def __init__(self, config: DirectConfig, policy: Policy, accelerator: Any, optimizer: Any) -> None:
        total = len(policy.steps)
        if config.backprop_steps > total:
            raise ValueError(
                f"backprop_steps: expected at most sample_num_steps ({total}), got {config.backprop_steps}. 0: all."
            )
        self.config, self.policy, self.accelerator, self.optimizer = config, policy, accelerator, optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._anchor = torch.zeros((), device=policy.device, requires_grad=True)
        self._batches = 0
        self._records: list[dict[str, float]] = []

    def sample(self, batch: SampledBatch) -> None:
        """Sample, score and backpropagate a batch; at the last batch of an accumulation, make an optimiser step."""
        config = self.config
        random = np.random.default_rng(batch.seeds[0])
        with batch.clock("rollout"):
            first, copies = self._first_step(random), 1
            self.policy.rollout(
                batch.prompts, batch.seeds, config.sample_guidance_scale, out=batch.trajectory, start=batch.start,
                log_probs=False, num_steps=first,
            )
            conditioning = self.policy.conditioning(batch.prompts, config.sample_guidance_scale)
            if config.method == "refl":
                latents, penalties = self._predict_clean(first, batch, conditioning)
            elif config.method == "draft-lv":
                copies = config.draft_lv_samples
                latents, penalties = self._renoised(batch, copies)
            else:
                latents, penalties = self._last_steps(first, batch, conditioning)
        with batch.clock("decode"):
            images = self.policy.decode(latents)
        with batch.clock("reward"):
            views = random_views(images, config.reward_augmentation, [*batch.seeds] * copies)
            scores = batch.score(views, [*batch.prompts] * copies)
        with batch.clock("update"):
            loss = -scores[:, 0].mean()
            penalty = torch.stack(penalties).mean() if penalties else None
            if penalty is not None:
                loss = loss + config.train_kl_weight * penalty
            self.accelerator.backward(loss / config.train_gradient_accumulation_steps)
            self._step_when_due()
        batch.images = images[: len(batch.prompts)].detach()
        batch.scores = scores.detach().unflatten(0, (copies, -1)).mean(0)
        self._records.append({"loss": loss.item(), "backprop_steps": float(self._depth(first))})
        if penalty is not None:
            self._records[-1]["kl_to_base"] = penalty.item()

    def step(self, epoch: int, experience: Experience) -> dict[str, float]:
        """The epoch's metrics: loss, backprop_steps, grad_norm, kl_to_base, optimizer_steps."""
        names = list(dict.fromkeys(name for record in self._records for name in record))
        metrics = {
            name: float(np.mean([record[name] for record in self._records if name in record])) for name in names
        }
        metrics["optimizer_steps"] = float(sum("grad_norm" in record for record in self._records))
        self._records = []
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Empty: there is no state between epochs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Empty: there are no tensors to save."""
        return {}

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """See `state_tensors`."""

    def _first_step(self, random: np.random.Generator) -> int:
        """Index of the first step with a graph. The steps before it are sampled without one."""
        config, total = self.config, len(self.policy.steps)
        if config.method == "refl":
            low, high = (round(share * total) for share in config.refl_window)
            low = min(low, total - 1)
            return int(random.integers(low, max(high, low + 1)))
        if config.method == "alignprop":
            low, high = (max(1, round(share * total)) for share in config.alignprop_window)
            return total - int(random.integers(low, high + 1))
        if config.method == "draft-lv":
            return total
        return total - (config.backprop_steps or total)

    def _depth(self, first: int) -> int:
        return 1 if self.config.method in ("refl", "draft-lv") else len(self.policy.steps) - first

    def _last_steps(
        self, first: int, batch: SampledBatch, conditioning: Any
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        store, penalties = batch.trajectory.latents, []
        latents = store[first, batch.rows].clone()
        for index in range(first, len(self.policy.steps)):
            # For steps that it did not make, the rollout left the noise in the slot of the next latents.
            noise = store[index + 1, batch.rows].clone()
            mean = self._with_graph(self._mean, index, latents, conditioning)
            penalties += self._penalty(index, latents, mean, conditioning)
            latents = mean + self.policy.steps[index].sigma * noise
            store[index + 1, batch.rows] = latents.detach()
        return latents, penalties

    def _predict_clean(
        self, index: int, batch: SampledBatch, conditioning: Any
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        latents = batch.trajectory.latents[index, batch.rows].clone()
        clean, mean = self._with_graph(self._transition, index, latents, conditioning)
        batch.trajectory.latents[-1, batch.rows] = clean.detach()
        return clean, self._penalty(index, latents, mean, conditioning)

    def _renoised(self, batch: SampledBatch, copies: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        index = len(self.policy.steps) - 1
        clean = torch.cat([batch.trajectory.latents[-1, batch.rows]] * copies)
        generators = [torch.Generator().manual_seed(seed) for seed in np.random.default_rng(batch.seeds).integers(
            2**63, size=len(clean)).tolist()]  # fmt: skip
        noise = torch.stack([torch.randn(clean.shape[1:], generator=generator) for generator in generators])
        latents = self.policy.add_noise(clean, noise.to(clean.device), self.policy.steps[index].level)
        conditioning = self.policy.conditioning([*batch.prompts] * copies, self.config.sample_guidance_scale)
        mean = self._with_graph(self._mean, index, latents, conditioning)
        return mean, self._penalty(index, latents, mean, conditioning)

    # These use the unwrapped module. Gradients are averaged between processes once, before the optimiser's step.

    def _transition(self, index: int, latents: torch.Tensor, conditioning: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self.policy.transition(index, latents, conditioning, self.config.sample_guidance_scale)

    def _mean(self, index: int, latents: torch.Tensor, conditioning: Any) -> torch.Tensor:
        return self._transition(index, latents, conditioning)[1]

    def _with_graph(self, function: Any, *arguments: Any) -> Any:
        if not self.config.train_step_checkpointing:
            return function(*arguments)
        # Reentrant, because its first pass records no graph. The other kind records one and drops most of it, which
        # takes time and memory. A reentrant checkpoint's output has a gradient only if an input has one. At the first
        # step the latents have none, so the anchor provides it.
        return checkpoint(lambda anchor, *rest: function(*rest), self._anchor, *arguments, use_reentrant=True)

    def _penalty(
        self, index: int, latents: torch.Tensor, mean: torch.Tensor, conditioning: Any
    ) -> list[torch.Tensor]:
        # A deterministic step has no KL divergence.
        if not self.config.train_kl_weight or not self.policy.steps[index].is_stochastic:
            return []
        base = self.policy.base_means(
            [index], latents.detach()[None], conditioning, self.config.sample_guidance_scale
        )[0]
        return [kl_divergence(self.policy.steps[index], mean, base).mean()]

    def _step_when_due(self) -> None:
        self._batches += 1
        if self._batches % self.config.train_gradient_accumulation_steps:
            return
        if self.accelerator.num_processes > 1:
            for parameter in self.parameters:
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        norm = take_step(self.config, self.accelerator, self.optimizer, self.parameters)
        self._records.append({"grad_norm": norm.item()})
