"""TRL 0.23.1's DDPOTrainer on the tiny pipeline. Imported only where that release comes first on the path."""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from diffusers import StableDiffusionPipeline

from benchmarks.trl_race import TheirEpochs
from reward import HyperAlignReward
from rl.lora.adapter import save_lora
from tinyworld import weights_path
from tinyworld.scenes import train_prompts

warnings.simplefilter("ignore")
# Their constructors log before accelerate is started.
PartialState(cpu=True)
logging.disable(logging.WARNING)

from trl import DDPOConfig, DDPOTrainer, DefaultDDPOStableDiffusionPipeline  # noqa: E402


class TrlSide(TheirEpochs):
    """Their trainer, one epoch a call.

    Args:
        settings: fields of their `DDPOConfig`, and `group_size`: pictures of a prompt in a row.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        settings = dict(settings)
        self.group_size = settings.pop("group_size", 1)
        config = DDPOConfig(
            mixed_precision="no", log_with=None, save_freq=10**9, tracker_project_name="none", **settings
        )
        self.prompts = train_prompts()
        self.random = np.random.default_rng(config.seed)
        self.drawn: list[str] = []
        self.reward = HyperAlignReward.from_pretrained(weights_path("hyperalign")).ddpo()
        self.pipeline = DefaultDDPOStableDiffusionPipeline(str(weights_path("stable-diffusion")))
        super().__init__(DDPOTrainer(config, self._scored, self._next_prompt, self.pipeline))
        # A terminal's bar for every batch is none of the algorithm's cost.
        self.pipeline.set_progress_bar_config(disable=True)
        self.trainer._generate_samples = self._timed("sampling", self.trainer._generate_samples, self._measured)
        self.trainer._train_batched_samples = self._timed("update", self.trainer._train_batched_samples)
        self.stored = self.stored_with_text = 0

    def run_epoch(self) -> dict[str, float]:
        """Seconds of the whole and of its parts, bytes kept between sampling and training."""
        total = self.timed_epoch()
        return {
            "seconds": total, **self.seconds, "stored_bytes": self.stored, "stored_bytes_text": self.stored_with_text,
            "trained_steps": self.trainer.num_train_timesteps,
        }  # fmt: skip

    def save(self, folder: Path) -> None:
        """Their LoRA in the file that diffusers and `rl.lora.adapter.load_lora` read."""
        save_lora(self.pipeline.unet, StableDiffusionPipeline, folder)

    def _next_prompt(self) -> tuple[str, dict]:
        if not self.drawn:
            self.drawn = [self.prompts[self.random.integers(len(self.prompts))]] * self.group_size
        return self.drawn.pop(), {}

    def _scored(self, images, prompts, metadata):
        started = time.perf_counter()
        result = self.reward(images, prompts, metadata)
        self._add("reward", time.perf_counter() - started)
        return result

    def _measured(self, result: Any) -> None:
        # What their `step` then concatenates, each key a tensor of its own.
        sizes: dict[str, int] = {}
        for sample in result[0]:
            for key, tensor in sample.items():
                sizes[key] = sizes.get(key, 0) + tensor.numel() * tensor.element_size()
        text = ("prompt_ids", "prompt_embeds", "negative_prompt_embeds")
        self.stored = sum(size for key, size in sizes.items() if key not in text)
        self.stored_with_text = sum(sizes.values())

    def _timed(self, part: str, function: Any, look: Any = None) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            self._add(part, time.perf_counter() - started)
            if look:
                look(result)
            return result

        return timed

    def _add(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds
