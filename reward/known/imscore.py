"""Any model of the `imscore` package, where it is installed: `imscore@MODULE.CLASS:HUB_ID`."""

import importlib
from typing import Any

from torch import Tensor

from reward.images.preprocess import ImageTransform
from reward.known.known_reward import About, KnownReward

_FORM = "imscore@MODULE.CLASS:HUB_ID, for example imscore@hps.model.HPSv2:RE-N-Y/hpsv21"


class ImscoreReward(KnownReward):
    """`model.score(pixels in [0,1], prompts)`; the model resizes and normalises itself.

    Args:
        model: of `imscore`, loaded.
        size: pictures are brought to this square before, so that they can be batched.
    """

    name = "imscore"
    about = About(
        formula="the model's own score(pixels, prompts)",
        source="github.com/RE-N-Y/imscore and the hub id that you name",
        licence="that of the weights (the package is MIT)",
        scale="the model's own",
        trained_on="see the model",
    )

    def __init__(self, model: Any, size: int = 512):
        super().__init__(ImageTransform((size, size), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize_mode="squash"))
        self.model = model
        self.finished()

    @classmethod
    def from_name(cls, source: str) -> "ImscoreReward":
        """`MODULE.CLASS:HUB_ID`.

        Raises:
            ImportError: imscore is not installed, or has no such module.
            ValueError: another form, or no such class.
        """
        path, colon, weights = source.partition(":")
        module, dot, name = path.rpartition(".")
        if not (colon and dot and weights) or not all(part.isidentifier() for part in path.split(".")):
            raise ValueError(f"Expected {_FORM} but got imscore@{source}")
        try:
            found = importlib.import_module(f"imscore.{module}")
        except ImportError as error:
            raise ImportError(f"Expected imscore with {module} but got {error}; pip install imscore") from error
        if not hasattr(found, name):
            raise ValueError(f"Expected a class of imscore.{module} but there is no {name}")
        return cls(getattr(found, name).from_pretrained(weights))

    def score(self, pixels: Tensor, prompts: list[str]) -> Tensor:
        return self.model.score(pixels, prompts).reshape(len(prompts))
