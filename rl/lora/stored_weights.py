"""Further sets of a LoRA's weights: the moving average, and the old LoRA that samples."""

import contextlib
from collections.abc import Iterator, Sequence

import torch


class StoredWeights:
    """A second set of values for the parameters, which can be swapped in. It starts as a copy."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.updates = 0
        self.shadow = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def mix(self, decay: float) -> None:
        """shadow <- decay * shadow + (1 - decay) * weights; counts an update."""
        torch._foreach_lerp_(self.shadow, [parameter.detach() for parameter in self.parameters], 1 - decay)
        self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context the parameters hold the stored values; after it, their own values again."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        _copy(self.parameters, self.shadow)
        try:
            yield
        finally:
            _copy(self.parameters, own)


class MovingAverage(StoredWeights):
    """Moving average of the weights. If it is on, it is evaluated and saved, not the last weights.

    shadow <- d * shadow + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at update n. With this warm-up the
    untrained start has little weight, also in short runs.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        super().__init__(parameters)
        self.decay = decay

    def update(self) -> None:
        """Update with the current weights."""
        self.mix(min(self.decay, (1 + self.updates) / (10 + self.updates)))


class OldWeights(StoredWeights):
    """The LoRA that samples while another one is trained (DiffusionNFT, arXiv:2509.16117).

    old <- d * old + (1 - d) * new after epoch n, counted from 0, with d = min(rate * n, limit). At first the old LoRA
    equals the new one; later it follows slowly.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], rate: float, limit: float) -> None:
        super().__init__(parameters)
        self.rate, self.limit = rate, limit

    @property
    def decay(self) -> float:
        """d of the next update."""
        return min(self.rate * self.updates, self.limit)

    def update(self) -> None:
        """Update with the current weights."""
        self.mix(self.decay)


@torch.no_grad()
def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
