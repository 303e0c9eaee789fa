"""Our DDPO trainer on the tiny pipeline, one epoch a call."""

import tempfile
from pathlib import Path
from typing import Any

import tinyworld
from benchmarks.trl_race import OurEpochs
from rl.config.ddpo_config import DDPOConfig
from rl.config.loading import load_config
from rl.packaged import resolve_packaged
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate
from rl.updates.experience import Experience

TRL_TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]


def make_config(settings: dict[str, Any]) -> DDPOConfig:
    """A config of ours on the tiny world, with TRL's LoRA."""
    return DDPOConfig(
        **{
            "model": "tinyworld:stable-diffusion", "rewards": ["hyperalign:tinyworld:hyperalign"],
            "prompts": "tinyworld.scenes:train_prompts", "lora_rank": 4, "lora_alpha": 4.0,
            "lora_targets": TRL_TARGETS, "log_with": None, "num_threads": 1,
        }
        | settings
    )  # fmt: skip


def recipe(seed: int, **overrides: Any) -> DDPOConfig:
    """The packaged recipe, tinyworld/ddpo.yaml, as `rl/ddpo_train.py` reads it."""
    flags = {"seed": seed, "log_with": "none", "eval_at_end": "false"} | overrides
    arguments = [text for key, value in flags.items() for text in (f"--{key}", str(value))]
    return load_config(DDPOConfig, arguments, default_recipe=Path(tinyworld.__file__).with_name("ddpo.yaml"))


class OurSide(OurEpochs):
    """Our trainer, one epoch a call; `settings` are fields of `DDPOConfig`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        scratch = tempfile.mkdtemp()
        config = make_config({"output_dir": scratch, "grid_freq": 10**9} | settings)
        super().__init__(Trainer.from_config(config, DDPOUpdate, resolve=resolve_packaged))
        self.stored = self.stored_with_text = 0
        step = self.trainer.update.step

        def measured(epoch: int, experience: Experience) -> dict[str, float]:
            self._measure(experience)
            return step(epoch, experience)

        self.trainer.update.step = measured

    def run_epoch(self) -> dict[str, float]:
        """Seconds of the whole and of its parts, bytes kept between sampling and training."""
        return super().run_epoch() | {
            "stored_bytes": self.stored,
            "stored_bytes_text": self.stored_with_text,
            "trained_steps": len(self.trainer.update._draw_steps(0, 0)),
        }

    def _measure(self, experience: Experience) -> None:
        kept = (experience.trajectory.latents, experience.trajectory.log_probs)
        self.stored = sum(tensor.numel() * tensor.element_size() for tensor in kept)
        encoder = self.trainer.policy.prompt_encoder
        texts = sorted({*experience.prompts, encoder.negative_prompt})
        parts = encoder.encode(texts, self.trainer.policy.device)
        self.stored_with_text = self.stored + sum(part.numel() * part.element_size() for part in parts)
