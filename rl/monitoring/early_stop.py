"""Early stopping: end a run that no longer improves or whose reward is hacked, and keep its best weights."""

from collections.abc import Sequence
from typing import Any

import torch


class EarlyStop:
    """Stores the best evaluation and its weights, and says when to stop.

    Args:
        parameters: the trained weights; in `Trainer` they hold the moving average during an evaluation.
        patience: stop after this many evaluations in a row without a new best one; 0: never.
        on_alarm: whether the reward-hacking alarm stops the run.

    Example:
        >>> stop = EarlyStop(trainer.lora, patience=3)
        >>> stop.see(epoch=10, value=0.41)
        False
    """

    def __init__(
        self, parameters: Sequence[torch.nn.Parameter], patience: int, *, on_alarm: bool = False
    ) -> None:
        self.parameters, self.patience, self.on_alarm = list(parameters), patience, on_alarm
        self.best: float | None = None
        self.best_epoch = 0
        self.waited = 0
        self.alarmed = False
        self.weights: list[torch.Tensor] = []

    def see(self, epoch: int, value: float, *, alarm: bool = False) -> bool:
        """Record an evaluation of the weights that are in the parameters now; returns whether to stop."""
        if not (self.patience or self.on_alarm):
            return False
        self.waited += 1
        if self.best is None or value > self.best:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            self.weights = [parameter.detach().clone() for parameter in self.parameters]
        self.alarmed = alarm and self.on_alarm
        return self.alarmed or bool(self.patience and self.waited >= self.patience)

    @torch.no_grad()
    def restore_best(self) -> None:
        """Copy the best evaluation's weights into the parameters; does nothing if there was no evaluation."""
        for parameter, weight in zip(self.parameters, self.weights, strict=bool(self.weights)):
            parameter.copy_(weight)

    def message(self, epoch: int) -> str:
        """The message of a run that is stopped early."""
        reason = "the reward is being hacked" if self.alarmed else f"the last {self.waited} evaluations were no better"
        return (
            f"Stopped early after epoch {epoch}: {reason}. The weights of the best evaluation are kept: "
            f"{self.best:.4f} at epoch {self.best_epoch}."
        )

    def state_dict(self) -> dict[str, Any]:
        """JSON state for the checkpoint, without the weights."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any], weights: Sequence[torch.Tensor]) -> None:
        """Restore the result of `state_dict`, and the best weights."""
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self.weights = [weight.to(p.device) for weight, p in zip(weights, self.parameters, strict=bool(weights))]
