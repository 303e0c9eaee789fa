"""Advantages from rewards: relative to the prompt's group, to the epoch, or to the prompt's past rewards."""

from collections.abc import Sequence

import numpy as np
import torch


def compute_advantages(
    rewards: torch.Tensor, group_size: int, mode: str, clip: float
) -> tuple[torch.Tensor, int]:
    """Advantages of (N,) rewards; the rewards of a group of `group_size` are next to each other.

    mode group: normalise by the group's mean and std; group_mean: by the group's mean and the epoch's std around the
    group means; global: by the epoch's mean and std; auto: group if groups have more than one picture, else global.
    Stds are the population's. If all rewards of a group are equal, its advantages are 0.

    Returns:
        (N,) float32 advantages in [-clip, clip], and the number of groups with equal rewards.

    Raises:
        ValueError: unknown mode.
    """
    if mode == "auto":
        mode = "group" if group_size > 1 else "global"
    values = rewards.double().view(-1, len(rewards) if mode == "global" else group_size)
    centred = values - values.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    # Rewards are float32. A std below its resolution is only rounding error; dividing by it would amplify noise.
    says_nothing = spread <= 1e-6 * values.abs().amax(1, keepdim=True)
    if mode == "group_mean":
        spread = centred.square().mean().sqrt().expand_as(spread)
    elif mode not in ("group", "global"):
        raise ValueError(f"Expected advantage mode group, group_mean or global, got {mode!r}.")
    advantages = torch.where(says_nothing, 0.0, centred / spread.where(~says_nothing, 1.0))
    return advantages.clamp(-clip, clip).flatten().float(), int(says_nothing.sum())


class PromptStatistics:
    """TRL's per-prompt normalisation by mean and std of a prompt's last `buffer_size` rewards, over all epochs."""

    def __init__(self, buffer_size: int, min_count: int) -> None:
        self.buffer_size, self.min_count = buffer_size, min_count
        self.rewards: dict[str, list[float]] = {}

    def update(self, prompts: Sequence[str], rewards: torch.Tensor) -> torch.Tensor:
        """Store (N,) rewards; returns (N,) advantages.

        A prompt with fewer than `min_count` stored rewards uses the mean and std of the (N,) rewards.
        """
        values = rewards.double().numpy()
        advantages = np.empty_like(values)
        places: dict[str, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(prompt, []).append(place)
        for prompt, own_places in places.items():
            own = values[own_places]
            remembered = (self.rewards.get(prompt, []) + own.tolist())[-self.buffer_size :]
            self.rewards[prompt] = remembered
            basis = values if len(remembered) < self.min_count else np.array(remembered)
            advantages[own_places] = (own - basis.mean()) / (basis.std() + 1e-6)
        return torch.from_numpy(advantages).float()
