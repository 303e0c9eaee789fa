"""DDPO: rewards -> advantages -> PPO-clip gradient on the log-probs of denoising steps.

Black et al., "Training Diffusion Models with Reinforcement Learning" (arXiv:2305.13301), importance-sampling form.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rl.config.ddpo_config import DDPOConfig
from rl.models.policy import Policy, Trajectory
from rl.sampling.step import kl_divergence, log_prob
from rl.updates.advantages import PromptStatistics, compute_advantages
from rl.updates.experience import Experience, SampledBatch
from rl.updates.optimizer import take_step


class DDPOUpdate:
    """Turns an epoch's experience into optimiser steps; the trainer's loop calls `step` once per epoch."""

    needs_gradients = False

    def __init__(self, config: DDPOConfig, policy: Policy, accelerator: Any, optimizer: Any) -> None:
        self.config, self.policy, self.accelerator, self.optimizer = config, policy, accelerator, optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.window = trained_steps(policy, config.train_step_window)
        self.weights = step_weights(policy, self.window, config.train_step_weighting)
        self.held = held_steps(policy, self.window) if config.train_hold_weight else []
        self.guidance = config.sample_guidance_scale if config.train_cfg else 1.0
        self.tracker = PromptStatistics(
            config.per_prompt_stat_tracking_buffer_size, config.per_prompt_stat_tracking_min_count
        )

    def sample(self, batch: SampledBatch) -> None:
        """Sample, decode and score a batch, and store log-probs at the training guidance, which `step` needs."""
        if self.config.train_ratio_norm and batch.trajectory.means is None:
            batch.trajectory.means = torch.zeros_like(batch.trajectory.latents[1:])
        with batch.clock("rollout"):
            self.policy.rollout(
                batch.prompts, batch.seeds, self.config.sample_guidance_scale, out=batch.trajectory,
                start=batch.start, log_prob_guidance=self.guidance,
            )
        with batch.clock("decode"), torch.no_grad():
            batch.images = self.policy.decode(batch.trajectory.latents[-1, batch.rows])
        with batch.clock("reward"):
            batch.scores = batch.score_later(batch.images, batch.prompts)

    def step(self, epoch: int, experience: Experience) -> dict[str, float]:
        """Make an epoch's optimiser steps; returns loss, approx_kl, clip_fraction, ratio_mean, grad_norm and counts."""
        config = self.config
        advantages, zero_groups = self._advantages(experience)
        local = advantages[experience.positions].to(self.policy.device)
        count = len(local)
        per_step = config.train_batch_size * config.train_gradient_accumulation_steps
        records, norms, extras = [], [], {"held_distance": [], "kl_to_base": []}
        for inner in range(config.train_num_inner_epochs):
            random = np.random.default_rng([config.seed, epoch, inner, self.accelerator.process_index])
            # Shuffle only if there are several optimiser steps; a single one uses all pictures in any order.
            order = torch.from_numpy(random.permutation(count)) if per_step < count else torch.arange(count)
            window = self._draw_steps(epoch, inner)
            for rows in order.split(per_step):
                step_records, norm = self._optimizer_step(experience.trajectory, local, rows, window, extras)
                records += step_records
                norms.append(norm)
        loss, kl, clipped, ratio = torch.stack(records).mean(0).tolist()
        metrics = {name: torch.stack(values).mean().item() for name, values in extras.items() if values}
        return metrics | {
            "loss": loss,
            "approx_kl": kl,
            "clip_fraction": clipped,
            "ratio_mean": ratio,
            "grad_norm": torch.stack(norms).mean().item(),
            "zero_std_groups": float(zero_groups),
            "optimizer_steps": float(len(norms)),
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON state: the per-prompt statistics."""
        return {"prompt_statistics": self.tracker.rewards}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.tracker.rewards = {prompt: list(values) for prompt, values in state["prompt_statistics"].items()}

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Empty: there are no tensors to save."""
        return {}

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """See `state_tensors`."""

    def _advantages(self, experience: Experience) -> tuple[torch.Tensor, int]:
        config = self.config
        if config.per_prompt_stat_tracking:
            advantages = self.tracker.update(experience.prompts, experience.rewards.cpu())
            return advantages.clamp(-config.train_adv_clip_max, config.train_adv_clip_max), 0
        return compute_advantages(
            experience.rewards.cpu(), config.sample_group_size, config.advantage_normalization,
            config.train_adv_clip_max,
        )

    def _draw_steps(self, epoch: int, inner: int) -> list[int]:
        count = max(1, round(len(self.window) * self.config.train_timestep_fraction))
        if count == len(self.window):
            return self.window
        # The same steps on every process.
        random = np.random.default_rng([self.config.seed, epoch, inner])
        return sorted(random.choice(self.window, size=count, replace=False).tolist())

    def _optimizer_step(
        self,
        trajectory: Trajectory,
        advantages: torch.Tensor,
        rows: torch.Tensor,
        window: Sequence[int],
        extras: dict[str, list[torch.Tensor]],
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        batches = rows.split(self.config.train_batch_size)
        passes = len(batches) * len(window)
        records = []
        for batch in batches:
            prompts = [trajectory.prompts[i] for i in batch.tolist()]
            extras["held_distance"] += self._hold(trajectory, batch, prompts, len(batches))
            for start in range(0, len(window), self.config.train_steps_per_pass):
                indices = window[start : start + self.config.train_steps_per_pass]
                is_last = len(records) + len(indices) == passes
                # Gradients are summed over the passes and need to be exchanged once.
                sync = contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.policy.trained)
                with sync:
                    losses, own_records, distances = self._losses(trajectory, advantages, batch, prompts, indices)
                    self.accelerator.backward(torch.stack(losses).sum() / passes)
                records += own_records
                extras["kl_to_base"] += distances
        return records, take_step(self.config, self.accelerator, self.optimizer, self.parameters)

    def _losses(
        self,
        trajectory: Trajectory,
        advantages: torch.Tensor,
        batch: torch.Tensor,
        prompts: Sequence[str],
        indices: Sequence[int],
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        # One loss, record and (with a KL penalty) distance for each of the steps `indices`, which share a pass.
        config, chosen = self.config, _as_slice(batch)
        # The text embeddings are cached, so this call does not encode again.
        conditioning = self.policy.conditioning([*prompts] * len(indices), self.guidance)
        before = torch.stack([trajectory.latents[index, chosen] for index in indices])
        means = self.policy.means(indices, before, conditioning, self.guidance)
        base = None
        if config.train_kl_weight:
            base = self.policy.base_means(indices, before, conditioning, self.guidance)
        losses, records, distances = [], [], []
        for place, index in enumerate(indices):
            new = log_prob(self.policy.steps[index], means[place], trajectory.latents[index + 1, chosen])
            old = trajectory.log_probs[index, chosen]
            weight = self.weights[index]
            if config.train_ratio_norm:
                drift = kl_divergence(self.policy.steps[index], means[place], trajectory.means[index, chosen])
                new, weight = new + drift, self.policy.steps[index].sigma
            loss, record = ppo_loss(new, old, advantages[chosen], config.train_clip_range, weight)
            if base is not None:
                distance = kl_divergence(self.policy.steps[index], means[place], base[place]).mean()
                loss = loss + config.train_kl_weight * distance
                distances.append(distance.detach())
            losses.append(loss)
            records.append(record)
        return losses, records, distances

    def _hold(
        self, trajectory: Trajectory, batch: torch.Tensor, prompts: Sequence[str], num_batches: int
    ) -> list[torch.Tensor]:
        # The reward does not train the held steps, but the LoRA, trained at the other steps, changes them.
        distances = []
        conditioning = self.policy.conditioning(prompts, self.guidance) if self.held else None
        for index in self.held:
            with self.accelerator.no_sync(self.policy.trained):
                latents = trajectory.latents[index, _as_slice(batch)]
                distance = self.policy.distance_to_base(index, latents, conditioning, self.guidance)
                weight = self.config.train_hold_weight / (num_batches * len(self.held))
                self.accelerator.backward(weight * distance)
            distances.append(distance.detach())
        return distances


def ppo_loss(
    new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip_range: float, weight: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped surrogate, mean over (B,), with ratio = exp(weight * (new - old)).

    Returns:
        the loss, and the detached record (loss, approx_kl, clip fraction, mean ratio), where approx_kl is
        mean((new - old)^2) / 2 (http://joschu.net/blog/kl-approx.html).

    Example:
        >>> loss, record = ppo_loss(new, old, advantages, clip_range=1e-4)
    """
    difference = new - old
    ratio = torch.exp(difference if weight == 1.0 else weight * difference)
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = torch.maximum(unclipped, clipped).mean()
    with torch.no_grad():
        beyond = ((ratio - 1).abs() > clip_range).float().mean()
        record = torch.stack([loss.detach(), 0.5 * difference.square().mean(), beyond, ratio.mean()])
    return loss, record


def trained_steps(policy: Policy, window: Sequence[float]) -> list[int]:
    """Indices of the stochastic steps in a window, given as shares of all steps; 0 is the noisiest.

    Raises:
        ValueError: there are none.
    """
    total = len(policy.steps)
    low, high = (round(share * total) for share in window)
    chosen = [index for index in range(low, high) if policy.steps[index].is_stochastic]
    if not chosen:
        raise ValueError(
            f"train_step_window: expected a window with a step to train, got [{window[0]}, {window[1]}] of {total} "
            "steps, which has none or only the last, which adds no noise. Widen it or raise sample_num_steps."
        )
    return chosen


def held_steps(policy: Policy, window: Sequence[int]) -> list[int]:
    """Indices of the steps that are not trained.

    Raises:
        ValueError: every step is trained, so train_hold_weight would have no effect.
    """
    held = [index for index in range(len(policy.steps)) if index not in window]
    if not held:
        raise ValueError(
            f"train_hold_weight: expected a train_step_window that leaves a step out, got one that trains all "
            f"{len(window)}, so there is no step to hold. Set train_hold_weight to 0, or end the window earlier."
        )
    return held


def step_weights(policy: Policy, window: Sequence[int], kind: str) -> dict[int, float]:
    """Weight of each trained step's log-ratio, mean 1: none, sigma, or 1 / output_sensitivity ("output")."""
    raw = {
        index: {
            "none": lambda step: 1.0,
            "sigma": lambda step: step.sigma,
            "output": lambda step: 1.0 / max(step.output_sensitivity, 1e-3),
        }[kind](policy.steps[index])
        for index in window
    }
    mean = sum(raw.values()) / len(raw)
    return {index: value / mean for index, value in raw.items()}


def _as_slice(rows: torch.Tensor) -> slice | torch.Tensor:
    # Consecutive rows as a slice, which needs no copy.
    first, count = int(rows[0]), len(rows)
    return slice(first, first + count) if torch.equal(rows, torch.arange(first, first + count)) else rows
