"""Moving average of the LoRA: smoother than the last step, and what is evaluated and saved when it is on."""

import contextlib
from collections.abc import Iterator, Sequence

import torch


class MovingAverage:
    """shadow <- d * shadow + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at update n.

    The warm-up keeps the average from clinging to the untrained start in short runs.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.updates = 0
        self.shadow = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the current weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.shadow, [parameter.detach() for parameter in self.parameters], 1 - decay)
        self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters hold the average; afterwards their own values again."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        _copy(self.parameters, self.shadow)
        try:
            yield
        finally:
            _copy(self.parameters, own)


@torch.no_grad()
def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
