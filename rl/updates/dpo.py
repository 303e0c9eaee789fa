"""Online Diffusion-DPO: prefer the best picture of each prompt's group to the worst.

Wallace et al., "Diffusion Model Alignment Using Direct Preference Optimization" (arXiv:2311.12908), on pairs that the
model has just sampled. Both pictures get the same noise level and noise:

    loss = -log sigmoid(-B/2 ((e_w - e_w_ref) - (e_l - e_l_ref)))          e: mean squared error of the velocity
"""

import math
from typing import Any

import torch

from rl.config.forward_config import DPOConfig
from rl.models.policy import Policy
from rl.updates.advantages import compute_advantages
from rl.updates.forward import ForwardUpdate, NoisedPictures, squared_error


class DPOUpdate(ForwardUpdate):
    """DPO on the best and the worst picture of each prompt's group; `config` is a `DPOConfig`."""

    members = 2

    def __init__(self, config: DPOConfig, policy: Policy, accelerator: Any, optimizer: Any) -> None:
        super().__init__(config, policy, accelerator, optimizer)
        pairs = config.check_groups(accelerator.num_processes)
        per_step = config.train_batch_size * config.train_gradient_accumulation_steps * accelerator.num_processes
        if pairs % per_step:
            raise ValueError(
                f"train_batch_size: expected the epoch's {pairs} pairs (one per prompt) to be divisible by "
                f"train_batch_size x train_gradient_accumulation_steps x processes = {per_step}. Set for example "
                f"train_batch_size: 1, train_gradient_accumulation_steps: 1."
            )

    def units(self, rewards: torch.Tensor) -> torch.Tensor:
        """Indices (prompts, 2) of the best and the worst picture of each prompt's group; the same if all are equal."""
        size = self.config.sample_group_size
        # Clipped advantages tie, and rounding would make a pair of equal rewards.
        groups = compute_advantages(rewards, size, "group", math.inf)[0].view(-1, size)
        first = torch.arange(len(groups)) * size
        return torch.stack([first + groups.argmax(1), first + groups.argmin(1)], dim=1)

    def loss(self, rows: NoisedPictures) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `dpo_loss`."""
        config = self.config
        needs_base = config.train_kl_weight or config.dpo_reference == "base"
        base = self.predict_base(rows) if needs_base else None
        reference = base if config.dpo_reference == "base" else self.predict_old(rows)
        new = self.predict_new(rows)
        own, theirs = (squared_error(prediction, rows.clean, rows.scale).chunk(2) for prediction in (new, reference))
        margin = (own[0] - theirs[0]) - (own[1] - theirs[1])
        loss = dpo_loss(own[0], own[1], theirs[0], theirs[1], config.dpo_beta).mean()
        penalty, record = self.kl_penalty(rows, new, base if config.train_kl_weight else None)
        return loss + penalty, record | {"preferred_share": (margin.detach() < 0).float().mean()}


def dpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, chosen_reference: torch.Tensor, rejected_reference: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Losses -log sigmoid(-beta/2 ((chosen - chosen_reference) - (rejected - rejected_reference))) of errors (B,).

    Example:
        >>> dpo_loss(chosen, rejected, chosen_reference, rejected_reference, beta=100.0).mean().backward()
    """
    margin = (chosen - chosen_reference) - (rejected - rejected_reference)
    return -torch.nn.functional.logsigmoid(-0.5 * beta * margin)
