"""Our direct trainer on the tiny pipeline, one epoch a call: one batch, one optimiser step."""

import tempfile
from typing import Any

from benchmarks.trl_race import OurEpochs
from rl.config.direct_config import DirectConfig
from rl.packaged import resolve_packaged
from rl.trainer import Trainer
from rl.updates.direct import DirectUpdate

# TRL's LoRA, which is not a choice there.
LORA = {"lora_rank": 4, "lora_alpha": 4.0, "lora_targets": ["to_k", "to_q", "to_v", "to_out.0"]}


def make_config(settings: dict[str, Any]) -> DirectConfig:
    """A config of ours on the tiny world, with TRL's LoRA, that backpropagates the last `depth` steps."""
    settings = dict(settings)
    # AlignProp with nothing left to draw.
    share = settings.pop("depth") / settings["sample_num_steps"]
    return DirectConfig(
        **{
            "model": "tinyworld:stable-diffusion", "rewards": ["hyperalign:tinyworld:hyperalign"],
            "prompts": "tinyworld.scenes:train_prompts", "log_with": None, "num_threads": 1, "grid_freq": 10**9,
            "method": "alignprop", "alignprop_window": [share, share], "sample_num_batches_per_epoch": 1,
        }
        | LORA | settings
    )  # fmt: skip


class OurSide(OurEpochs):
    """Our trainer, one epoch a call; `settings` are fields of `DirectConfig`, and `depth`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        config = make_config({"output_dir": tempfile.mkdtemp()} | settings)
        super().__init__(Trainer.from_config(config, DirectUpdate, resolve=resolve_packaged))
