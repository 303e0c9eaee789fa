"""Rewards -> advantages: how much better a picture is than its prompt's others, the epoch's, or the prompt's past."""

from collections.abc import Sequence

import numpy as np
import torch


def compute_advantages(
    rewards: torch.Tensor, group_size: int, mode: str, clip: float
) -> tuple[torch.Tensor, int]:
    """Advantages of (N,) rewards whose groups of `group_size` lie side by side.

    mode group: by the group's mean and std; group_mean: group's mean, std of the epoch around it; global: the epoch's
    mean and std; auto: group where groups have more than one picture, else global. Standard deviations are those of
    the population. A group whose rewards are all equal says nothing: its advantages are 0, and it is counted.

    Returns:
        (N,) float32 advantages in [-clip, clip], and the number of such groups.

    Raises:
        ValueError: unknown mode.
    """
    if mode == "auto":
        mode = "group" if group_size > 1 else "global"
    values = rewards.double().view(-1, len(rewards) if mode == "global" else group_size)
    centred = values - values.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    # Rewards are float32: below its resolution a spread is rounding, and dividing by it would blow noise up.
    says_nothing = spread <= 1e-6 * values.abs().amax(1, keepdim=True)
    if mode == "group_mean":
        spread = centred.square().mean().sqrt().expand_as(spread)
    elif mode not in ("group", "global"):
        raise ValueError(f"Expected advantage mode group, group_mean or global, got {mode!r}.")
    advantages = torch.where(says_nothing, 0.0, centred / spread.where(~says_nothing, 1.0))
    return advantages.clamp(-clip, clip).flatten().float(), int(says_nothing.sum())


class PromptStatistics:
    """TRL's per-prompt normalisation: mean and std over a prompt's last `buffer_size` rewards, of past epochs too."""

    def __init__(self, buffer_size: int, min_count: int) -> None:
        self.buffer_size, self.min_count = buffer_size, min_count
        self.rewards: dict[str, list[float]] = {}

    def update(self, prompts: Sequence[str], rewards: torch.Tensor) -> torch.Tensor:
        """(N,) advantages; prompts with fewer than `min_count` remembered rewards use the mean and std of (N,)."""
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
