"""HyperAlign: a hyperbolic text-image alignment reward model.

Names are imported on first use (PEP 562). `import reward` therefore loads neither torch nor open_clip; they are loaded
when a name is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reward.hyperalign_reward import HyperAlignReward
    from reward.model.config import HyperAlignConfig
    from reward.model.head import HyperAlign, HyperAlignOutput
    from reward.training.train import fit_head

_HOME = {
    "HyperAlign": "reward.model.head",
    "HyperAlignConfig": "reward.model.config",
    "HyperAlignOutput": "reward.model.head",
    "HyperAlignReward": "reward.hyperalign_reward",
    "fit_head": "reward.training.train",
}

__all__ = ["HyperAlign", "HyperAlignConfig", "HyperAlignOutput", "HyperAlignReward", "fit_head"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'reward' has no attribute {name!r}; public names are {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
