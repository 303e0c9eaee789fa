"""The fields that direct backpropagation adds to the common config."""

from dataclasses import dataclass
from typing import Literal

from rl.config.fields import knob
from rl.config.train_config import TrainConfig


@dataclass
class DirectConfig(TrainConfig):
    """`TrainConfig` plus the settings of direct backpropagation: steps, memory, augmentation."""

    method: Literal["refl", "draft", "draft-lv", "alignprop"] = knob(
        "draft", "direct",
        "refl: one random late step, through its clean prediction; draft: the last backprop_steps steps; draft-lv: the "
        "last step, averaged over re-noised copies; alignprop: a random number of last steps per batch.",
    )
    backprop_steps: int = knob(1, "direct", "draft: last steps that gradients flow through; 0: all.", min=0)
    refl_window: list[float] = knob(
        [0.6, 1.0], "direct", "refl: range of the random step, as shares of all steps, from and to; 1 is the last.",
        min=0, max=1, min_items=2, max_items=2,
    )
    draft_lv_samples: int = knob(2, "direct", "draft-lv: re-noised copies of each picture.", min=1)
    alignprop_window: list[float] = knob(
        [0.0, 1.0], "direct",
        "alignprop: range of the random number of last steps, as shares of all steps, from and to; at least one step.",
        min=0, max=1, min_items=2, max_items=2,
    )
    train_step_checkpointing: bool = knob(
        True, "direct",
        "Store only a step's latents and recompute its activations in the backward pass: less memory per step, a third "
        "slower.",
    )
    reward_augmentation: float = knob(
        0.0, "direct",
        "The reward gets a random view of each picture: cropped by up to this share of its side, with noise of this "
        "standard deviation. Against pixel patterns that fool the reward. 0: the picture itself.",
        min=0, max=0.5,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_num_batches_per_epoch % self.train_gradient_accumulation_steps:
            raise ValueError(
                f"train_gradient_accumulation_steps: expected a divisor of sample_num_batches_per_epoch "
                f"({self.sample_num_batches_per_epoch}), got {self.train_gradient_accumulation_steps}, the number of "
                "sampled batches per optimiser step."
            )
        for name in ("refl_window", "alignprop_window"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected [from, to] with from <= to, got [{low}, {high}].")
        if self.async_reward_computation:
            raise ValueError(
                "async_reward_computation: expected false, got true. Backpropagation needs each batch's reward before "
                "the next; set it to false."
            )
        if self.reward_normalization != "none":
            raise ValueError(
                f"reward_normalization: expected none, got {self.reward_normalization!r}. Direct backpropagation uses "
                "the gradient of the raw rewards; set their weights instead."
            )
