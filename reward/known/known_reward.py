"""What every known reward is: a module called with pictures and prompts, and a record of where it comes from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reward.images.preprocess import ImageTransform, to_tensors


@dataclass(frozen=True)
class About:
    """Where a reward comes from, for people who choose one.

    Args:
        formula: of the score, in one line.
        source: paper and weights.
        licence: of the published weights.
        scale: what values mean, higher always better.
        trained_on: what taught it.
    """

    formula: str
    source: str
    licence: str
    scale: str
    trained_on: str


class _Face:
    """The part of a `Backbone` that scoring asks for."""

    def __init__(self, reward: "KnownReward"):
        self._reward = reward
        self.model_config, self.preprocess_config = {"known": type(reward).__name__}, repr(reward.transform)

    @property
    def transform(self) -> ImageTransform:
        return self._reward.transform

    @property
    def device(self) -> torch.device:
        return next(self._reward.parameters()).device

    def clear_cache(self) -> None:
        """Nothing is kept between calls."""


class KnownReward(nn.Module, ABC):
    """score = self.score(pixels of the model's own size, prompts).

    Attributes:
        name: in recipes and on the command line.
        about: see `About`.
        is_differentiable: with respect to pixels.
    """

    name: ClassVar[str]
    about: ClassVar[About]
    is_differentiable: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = True

    def __init__(self, transform: ImageTransform):
        super().__init__()
        self.transform = transform

    def finished(self) -> "KnownReward":
        """Frozen and in evaluation mode."""
        return self.requires_grad_(False).eval()

    @property
    def backbone(self) -> _Face:
        return _Face(self)

    @property
    def config(self) -> Any:
        return self

    def to_dict(self) -> dict[str, str]:
        """What scores depend on besides weights."""
        return {"known": self.name, **{key: str(value) for key, value in vars(self.about).items()}}

    def forward(self, images: Any, prompts: str | Sequence[str]) -> Tensor:
        """Scores (B,) float32; inputs as of `HyperAlignReward`.

        Raises:
            TypeError, ValueError: images or prompts that cannot be used.
        """
        tensors = to_tensors(images)
        count = len(tensors)
        texts = [prompts] * count if isinstance(prompts, str) else list(prompts)
        if len(texts) != count:
            raise ValueError(f"Expected one prompt for each of the {count} images but got {len(texts)}")
        device = next(self.parameters()).device
        pixels = self.transform([t.to(device) for t in tensors] if isinstance(tensors, list) else tensors.to(device))
        with torch.set_grad_enabled(torch.is_grad_enabled() and pixels.requires_grad):
            return self.score(pixels, texts).float()

    @abstractmethod
    def score(self, pixels: Tensor, prompts: list[str]) -> Tensor:
        """Normalised pixels (B,3,H,W), B prompts -> (B,)."""

    def ddpo(self) -> Callable[[Any, Sequence[str], Sequence[Any]], tuple[Tensor, dict]]:
        """This reward in TRL's call shape."""
        from reward.trl_adapters import ddpo_reward

        return ddpo_reward(self)
