"""The data between the trainer's loop and an update rule: a batch during sampling, an epoch's samples after it."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from rl.models.policy import Trajectory


@dataclass
class SampledBatch:
    """One batch: the inputs of an update rule, and the results that `Update.sample` fills in.

    prompts, seeds: N each. trajectory: the epoch's; the batch has the rows from `start` on. clock: measures the time of
    a named part. score: images (M,3,H,W), M prompts -> (M,1+R), the weighted sum and each reward, with a graph if the
    images have one. score_later: the same without a graph, perhaps in the background.

    Filled in: images: (N,3,H,W) in [0,1]. scores: (N,1+R), or a future of it.
    """

    prompts: list[str]
    seeds: list[int]
    trajectory: Trajectory
    start: int
    clock: Callable[[str], AbstractContextManager]
    score: Callable[[torch.Tensor, list[str]], torch.Tensor]
    score_later: Callable[[torch.Tensor, list[str]], torch.Tensor | Future]
    images: torch.Tensor | None = None
    scores: torch.Tensor | Future | None = None

    @property
    def rows(self) -> slice:
        """The batch's rows of the trajectory."""
        return slice(self.start, self.start + len(self.prompts))


@dataclass
class Experience:
    """An epoch's samples: this process's trajectory, and the rewards of all processes.

    trajectory: N_local pictures. prompts, rewards: of all N pictures; the pictures of a prompt group are next to each
    other. positions: (N_local,) indices of this process's pictures among the N.
    """

    trajectory: Trajectory
    prompts: list[str]
    rewards: torch.Tensor
    positions: torch.Tensor


class Update(Protocol):
    """An update rule: turns rewards into optimiser steps. Made as `Update(config, policy, accelerator, optimizer)`.

    `needs_gradients`: whether it needs differentiable rewards.
    """

    needs_gradients: bool

    def sample(self, batch: SampledBatch) -> None:
        """Fill in the batch's rows of the trajectory, its images and its scores."""

    def step(self, epoch: int, experience: Experience) -> dict[str, float]:
        """Make the epoch's optimiser steps, except those that `sample` has made; returns metrics."""

    def state_dict(self) -> dict[str, Any]:
        """JSON state for the checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Tensors for the checkpoint."""

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restore the result of `state_tensors`.

        Raises:
            KeyError: a tensor is missing.
        """
