"""Fine-tuning of diffusers pipelines with any reward. Names load on first use, so `import rl` costs nothing."""

import importlib
from typing import Any

_HOMES = {
    "TrainConfig": "rl.config",
    "DDPOConfig": "rl.config",
    "load_config": "rl.config_loading",
    "DiffusionPolicy": "rl.policy",
    "Trainer": "rl.trainer",
    "DDPOUpdate": "rl.ddpo_update",
    "RewardSet": "rl.reward_loading",
    "load_rewards": "rl.reward_loading",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rl' has no attribute {name!r}; it offers {', '.join(__all__)}.")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
