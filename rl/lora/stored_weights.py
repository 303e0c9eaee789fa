"""Second sets of a LoRA's weights, kept beside the module: the moving average, and the old LoRA that samples."""

import contextlib
from collections.abc import Iterator, Sequence

import torch


class StoredWeights:
    """A copy of the parameters that they can be exchanged for; it starts as they are."""

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
        """Inside, the parameters hold the copy; afterwards their own values again."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        _copy(self.parameters, self.shadow)
        try:
            yield
        finally:
            _copy(self.parameters, own)


class MovingAverage(StoredWeights):
    """Smoother than the last step, and what is evaluated and saved when it is on.

    shadow <- d * shadow + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at update n. The warm-up keeps the
    average from clinging to the untrained start in short runs.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        super().__init__(parameters)
        self.decay = decay

    def update(self) -> None:
        """Take in the current weights."""
        self.mix(min(self.decay, (1 + self.updates) / (10 + self.updates)))


class OldWeights(StoredWeights):
    """The LoRA that samples while another one is trained (DiffusionNFT, arXiv:2509.16117).

    old <- d * old + (1 - d) * new after epoch n, counted from 0, with d = min(rate * n, limit): at first the old LoRA
    is the new one, later it follows slowly.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], rate: float, limit: float) -> None:
        super().__init__(parameters)
        self.rate, self.limit = rate, limit

    @property
    def decay(self) -> float:
        """d of the next update."""
        return min(self.rate * self.updates, self.limit)

    def update(self) -> None:
        """Take in the current weights."""
        self.mix(self.decay)


@torch.no_grad()
def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
