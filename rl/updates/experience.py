"""What passes between the trainer's loop and an update: a batch while it is sampled, an epoch's samples afterwards."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from rl.models.policy import Trajectory


@dataclass
class SampledBatch:
    """One batch: what an update is given, and what `Update.sample` fills in.

    prompts, seeds: N; trajectory: the epoch's, where the batch has the rows from `start` on; clock: times a named part
    of the work; score: images (M,3,H,W), M prompts -> (M,1+R), the weighted sum and each reward, with a graph where
    the images have one; score_later: the same without a graph, perhaps in the background.

    images: (N,3,H,W) in [0,1]; scores: (N,1+R), or a future of it.
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
    """An epoch's samples: this process's trajectory, everybody's rewards.

    trajectory: N_local pictures; prompts, rewards: of all N pictures, prompt groups side by side; positions:
    (N_local,) places of this process's pictures among the N.
    """

    trajectory: Trajectory
    prompts: list[str]
    rewards: torch.Tensor
    positions: torch.Tensor


class Update(Protocol):
    """One way to turn rewards into optimiser steps; made as `Update(config, policy, accelerator, optimizer)`.

    `needs_gradients` says whether it wants rewards that keep their graph.
    """

    needs_gradients: bool

    def sample(self, batch: SampledBatch) -> None:
        """Fill in the batch's rows of the trajectory, its images and its scores."""

    def step(self, epoch: int, experience: Experience) -> dict[str, float]:
        """Make the epoch's optimiser steps, those that `sample` has not made; returns metrics."""

    def state_dict(self) -> dict[str, Any]:
        """JSON state for the checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Tensors for the checkpoint."""

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put them back.

        Raises:
            KeyError: one is missing.
        """
