"""The common part of the forward-process rules: sample with the old LoRA, then train on final pictures with new noise.

They need no log-probs, and the states that the sampler visited only with `visited_share`, so the rollout may use any
sampler and guidance. Each rule is a subclass with its own `loss`: `rl.updates.nft`, `rl.updates.matching`,
`rl.updates.dpo`.
"""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from rl.config.forward_config import ForwardConfig
from rl.lora.stored_weights import OldWeights
from rl.models.policy import Policy, sample_seed
from rl.updates.advantages import compute_advantages
from rl.updates.experience import Experience, SampledBatch
from rl.updates.optimizer import take_step

_NOISE = 2  # first part of the seed's key, so that this noise differs from the rollout's


@dataclass
class NoisedPictures:
    """R rows of pictures with new noise: latents (R,...), levels (R,), advantages (R,), and the conditioning.

    scale: (R,1,...), standard deviation of the noise. The clean prediction's error divided by it is the velocity's.
    """

    clean: torch.Tensor
    noised: torch.Tensor
    levels: torch.Tensor
    scale: torch.Tensor
    advantages: torch.Tensor
    conditioning: Any


class ForwardUpdate(ABC):
    """Turns an epoch's final pictures into optimiser steps; the trainer's loop calls `step` once per epoch."""

    needs_gradients = False
    members = 1  # pictures that are trained on together

    def __init__(self, config: ForwardConfig, policy: Policy, accelerator: Any, optimizer: Any) -> None:
        self.config, self.policy, self.accelerator, self.optimizer = config, policy, accelerator, optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.old = OldWeights(self.parameters, config.old_decay_rate, config.old_decay_limit)

    @abstractmethod
    def loss(self, rows: NoisedPictures) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean loss of the rows, with a gradient, and further values to log."""

    def units(self, rewards: torch.Tensor) -> torch.Tensor:
        """Indices (U, members) of the pictures that are trained on together, from all rewards (N,)."""
        return torch.arange(len(rewards))[:, None]

    def sample(self, batch: SampledBatch) -> None:
        """Sample a batch with the old LoRA, decode and score it."""
        with batch.clock("rollout"), self.old.applied():
            self.policy.rollout(
                batch.prompts, batch.seeds, self.config.sample_guidance_scale, out=batch.trajectory,
                start=batch.start, log_probs=False,
            )
        with batch.clock("decode"), torch.no_grad():
            batch.images = self.policy.decode(batch.trajectory.latents[-1, batch.rows])
        with batch.clock("reward"):
            batch.scores = batch.score_later(batch.images, batch.prompts)

    def step(self, epoch: int, experience: Experience) -> dict[str, float]:
        """Make an epoch's optimiser steps, then update the old LoRA; returns loss, grad_norm, distances and counts."""
        config, world = self.config, self.accelerator.num_processes
        advantages, zero_groups = compute_advantages(
            experience.rewards.cpu(), config.sample_group_size, config.advantage_normalization,
            config.train_adv_clip_max,
        )
        states = self._everybodys(experience)
        units = self.units(experience.rewards.cpu())
        per_step = config.train_batch_size * config.train_gradient_accumulation_steps * world
        records, norms = [], []
        for inner in range(config.train_num_inner_epochs):
            # The same order on every process; each process takes its share of every step.
            order = torch.from_numpy(np.random.default_rng([config.seed, epoch, inner]).permutation(len(units)))
            for chosen in order.split(per_step):
                own = units[chosen.chunk(world)[self.accelerator.process_index]]
                batches = own.split(config.train_batch_size)
                for number, batch in enumerate(batches):
                    rows = self._noised(batch, epoch, inner, states, experience.prompts, advantages)
                    last = number + 1 == len(batches)
                    # Gradients are summed over the batches and need to be exchanged once.
                    with contextlib.nullcontext() if last else self.accelerator.no_sync(self.policy.trained):
                        loss, record = self.loss(rows)
                        self.accelerator.backward(loss / len(batches))
                    records.append(record | {"loss": loss.detach()})
                norms.append(take_step(config, self.accelerator, self.optimizer, self.parameters))
        metrics = {name: torch.stack([record[name] for record in records]).mean().item() for name in records[0]}
        metrics |= {
            "grad_norm": torch.stack(norms).mean().item(), "zero_std_groups": float(zero_groups),
            "optimizer_steps": float(len(norms)), "old_decay": self.old.decay,
        }  # fmt: skip
        self.old.update()
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """JSON state: the number of updates of the old LoRA."""
        return {"old_updates": self.old.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.old.updates = state["old_updates"]

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """The old LoRA's weights, by the index of their parameters."""
        return {f"old.{place}": weights for place, weights in enumerate(self.old.shadow)}

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `state_tensors` gave."""
        self.old.shadow = [tensors[f"old.{i}"].to(own.device) for i, own in enumerate(self.old.shadow)]

    def predict_old(self, rows: NoisedPictures) -> torch.Tensor:
        """The old LoRA's clean prediction, without a gradient."""
        with torch.no_grad(), self.old.applied():
            return self._predict(rows, self.policy.denoiser)

    def predict_base(self, rows: NoisedPictures) -> torch.Tensor:
        """The base model's clean prediction, without a gradient."""
        with torch.no_grad(), self.policy.base_model():
            return self._predict(rows, self.policy.denoiser)

    def predict_new(self, rows: NoisedPictures) -> torch.Tensor:
        """The trained LoRA's clean prediction; comes last, for the others exchange the weights that its graph holds."""
        return self._predict(rows, None)

    def kl_penalty(
        self, rows: NoisedPictures, new: torch.Tensor, base: torch.Tensor | None
    ) -> tuple[torch.Tensor | float, dict[str, torch.Tensor]]:
        """`train_kl_weight` times the squared distance of the velocity from the base model's, and its record."""
        if base is None:
            return 0.0, {}
        distance = ((new - base) / rows.scale).square().mean()
        return self.config.train_kl_weight * distance, {"kl_to_base": distance.detach()}

    def _predict(self, rows: NoisedPictures, denoiser: Any) -> torch.Tensor:
        guidance = self.config.train_guidance_scale
        return self.policy.predict_clean(rows.levels, rows.noised, rows.conditioning, guidance, denoiser)

    def _everybodys(self, experience: Experience) -> torch.Tensor:
        """States (S,N,...) of the pictures of all processes, the final ones last, in the order of the prompts.

        S is 1, or with `visited_share` all of the sampler's.
        """
        own = experience.trajectory.latents
        if not self.config.visited_share:
            own = own[-1:]
        if self.accelerator.num_processes == 1:
            return own
        rows = self.accelerator.gather(own.transpose(0, 1).contiguous())
        places = self.accelerator.gather(experience.positions.to(own.device))
        states = torch.empty_like(rows)
        states[places] = rows
        return states.transpose(0, 1)

    def _noised(
        self, units: torch.Tensor, epoch: int, inner: int, states: torch.Tensor, prompts: Sequence[str],
        advantages: torch.Tensor,
    ) -> NoisedPictures:
        """Pictures (B, members) at K noise levels each: B * K rows of the first members, then of the second.

        states: (S,N,...), see `_everybodys`.
        """
        config, device = self.config, states.device
        draws = [self._draw(int(unit[0]), epoch, inner, states.shape[2:]) for unit in units]
        levels, noise, steps = (torch.cat([*part] * self.members) for part in zip(*draws, strict=True))
        levels, noise = levels.to(device), noise.to(device)
        places = units.T.flatten().repeat_interleave(config.noise_levels_per_picture)
        pictures = states[-1, places.to(device)]
        noised = self.policy.add_noise(pictures, noise, levels)
        visited = steps >= 0
        noised[visited.to(device)] = states[steps[visited].to(device), places[visited].to(device)]
        return NoisedPictures(
            clean=pictures,
            noised=noised,
            levels=levels,
            scale=self.policy.noise_scale(levels, pictures),
            advantages=advantages[places].to(device),
            conditioning=self.policy.conditioning(
                [prompts[i] for i in places.tolist()], config.train_guidance_scale
            ),
        )

    def _draw(
        self, picture: int, epoch: int, inner: int, shape: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """K noise levels and noises of a picture, and the sampler's steps whose state is used instead; -1: none.

        They depend on the seed and the picture's index, not on the processes.
        """
        config, count = self.config, self.config.noise_levels_per_picture
        seeds = [sample_seed(config.seed, _NOISE, epoch, inner, picture, k) for k in range(count)]
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        shares = stratified(np.random.default_rng(seeds[0]), count)
        is_visited = np.random.default_rng([seeds[0], _NOISE]).random() < config.visited_share
        steps = torch.full((count,), -1)
        if is_visited or config.noise_levels == "sampler":
            places = [math.floor(share * len(self.policy.steps)) for share in shares]
            levels = torch.tensor([self.policy.steps[place].level for place in places])
            return levels, noise, torch.tensor(places) if is_visited else steps
        if config.noise_levels == "logit_normal":
            shares = [1 / (1 + math.exp(-NormalDist().inv_cdf(min(max(share, 1e-6), 1 - 1e-6)))) for share in shares]
        return self.policy.level_at(torch.tensor(shares)), noise, steps


def stratified(random: np.random.Generator, count: int) -> list[float]:
    """`count` numbers in [0,1), one in each of as many equal parts.

    Example:
        >>> stratified(np.random.default_rng(0), 2)
        [0.3184808480166138, 0.6348933689168617]
    """
    return [float((place + value) / count) for place, value in enumerate(random.random(count))]


def squared_error(prediction: torch.Tensor, target: torch.Tensor, scale: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Mean over latent dimensions of ((prediction - target) / scale)^2, (B,)."""
    return ((prediction - target) / scale).square().flatten(1).mean(1)
