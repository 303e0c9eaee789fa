"""Fine-tuning of diffusers pipelines with any reward. Names are imported on first use, so `import rl` is fast."""

import importlib
from typing import Any

_HOMES = {
    "TrainConfig": "rl.config.train_config",
    "DDPOConfig": "rl.config.ddpo_config",
    "load_config": "rl.config.loading",
    "policy_for": "rl.models.families",
    "Trainer": "rl.trainer",
    "DDPOUpdate": "rl.updates.ddpo",
    "RewardSet": "rl.rewards.loading",
    "load_rewards": "rl.rewards.loading",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rl' has no attribute {name!r}; it has {', '.join(__all__)}.")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
