"""TRL 0.23.1's AlignPropTrainer on the tiny pipeline. Imported only where that release comes first on the path."""

import logging
import time
import warnings
from typing import Any

import numpy as np
from accelerate import PartialState

from benchmarks.trl_race import TheirEpochs
from reward import HyperAlignReward
from reward.trl_adapters import alignprop_reward
from tinyworld import weights_path
from tinyworld.scenes import train_prompts

warnings.simplefilter("ignore")
# Their constructors log before accelerate is started.
PartialState(cpu=True)
logging.disable(logging.WARNING)

from trl import AlignPropConfig, AlignPropTrainer, DefaultDDPOStableDiffusionPipeline  # noqa: E402


class TrlSide(TheirEpochs):
    """Their trainer, one optimiser step a call, truncation fixed.

    Args:
        settings: fields of ours that theirs has too, `sample_batch_size`, `depth`, and `mend_no_guidance`: without it
            they fail where guidance is off, since the negative embeddings are passed all the same.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        settings = dict(settings)
        depth, mended = settings.pop("depth"), settings.pop("mend_no_guidance", False)
        config = AlignPropConfig(
            mixed_precision="no", log_with=None, save_freq=10**9, tracker_project_name="none",
            truncated_backprop_rand=False, truncated_backprop_timestep=settings["sample_num_steps"] - depth,
            train_batch_size=settings.pop("sample_batch_size"), **settings,
        )  # fmt: skip
        self.prompts, self.random = train_prompts(), np.random.default_rng(config.seed)
        self.reward = alignprop_reward(HyperAlignReward.from_pretrained(weights_path("hyperalign")))
        self.pipeline = DefaultDDPOStableDiffusionPipeline(str(weights_path("stable-diffusion")))
        if mended:
            self.pipeline.sd_pipeline._encode_prompt = lambda *args, prompt_embeds, **kwargs: prompt_embeds
        super().__init__(AlignPropTrainer(config, self._scored, self._next_prompt, self.pipeline))
        # A terminal's bar for every batch is none of the algorithm's cost.
        self.pipeline.set_progress_bar_config(disable=True)
        self.trainer._generate_samples = self._timed("sampling", self.trainer._generate_samples)

    def run_epoch(self) -> dict[str, float]:
        """Seconds of the whole and of its parts."""
        total = self.timed_epoch()
        # Backward pass and optimiser, which their `step` does in between.
        return {"seconds": total, **self.seconds, "update": total - sum(self.seconds.values())}

    def _next_prompt(self) -> tuple[str, dict]:
        return self.prompts[self.random.integers(len(self.prompts))], {}

    def _scored(self, images, prompts, metadata):
        return self._timed("reward", self.reward)(images, prompts, metadata)

    def _timed(self, part: str, function: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started
            return result

        return timed
