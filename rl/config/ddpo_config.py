"""The fields that DDPO adds to the common config."""

from dataclasses import dataclass
from typing import Literal

from rl.config.fields import knob
from rl.config.train_config import TrainConfig


@dataclass
class DDPOConfig(TrainConfig):
    """`TrainConfig` plus DDPO's settings: advantages and the PPO-clip update."""

    flow_sampler: Literal["sde", "dance", "cps"] = knob(
        "sde", "sampling",
        "Stochastic steps of a flow-matching model inside train_step_window: sde: Flow-GRPO; dance: DanceGRPO; cps: "
        "coefficients-preserving. The other steps follow the ODE. Diffusion models use sample_eta instead.",
    )
    flow_noise_level: float = knob(
        0.7, "sampling", "Noise level a of flow_sampler; cps: at most 1. 0.7 in Flow-GRPO, 0.3 in DanceGRPO.", above=0
    )
    train_batch_size: int = knob(8, "DDPO", "Trajectories per forward pass and process.", min=1)
    train_num_inner_epochs: int = knob(1, "DDPO", "Passes over an epoch's trajectories.", min=1)
    train_cfg: bool = knob(True, "DDPO", "Log-probs with guidance, as in sampling; false: without guidance.")
    train_clip_range: float = knob(
        1e-4, "DDPO", "PPO clip range; log-probs are means over latent dimensions, so ratios are near 1.", above=0
    )
    train_adv_clip_max: float = knob(5.0, "DDPO", "Advantages are clipped to +- this.", above=0)
    train_step_window: list[float] = knob(
        [0.0, 1.0], "DDPO",
        "Steps to train, as shares of all steps, from and to; 0 is the noisiest. [0, 0.5]: the noisier half, which "
        "sets the composition.",
        min=0, max=1, min_items=2, max_items=2,
    )
    train_hold_weight: float = knob(
        0.0, "DDPO",
        "Weight of a penalty that keeps the denoiser's output near the base model's at the steps outside the window: "
        "its mean squared difference. The reward does not train those steps, but the LoRA changes them.", min=0,
    )
    train_timestep_fraction: float = knob(
        1.0, "DDPO", "Share of the window's steps to train, drawn at random in each inner epoch.", above=0, max=1
    )
    train_steps_per_pass: int = knob(
        1, "DDPO", "Denoising steps of a batch per forward pass. More: same gradient, faster, more memory.",
        min=1,
    )
    train_step_weighting: Literal["none", "sigma", "output"] = knob(
        "none", "DDPO",
        "Weight of a step's log-ratio, mean 1: sigma, or output (equal gradient on the denoiser's output). Without it "
        "the gradient grows with 1 / sigma, and low-noise steps dominate.",
    )
    train_ratio_norm: bool = knob(
        False, "DDPO",
        "GRPO-Guard's normalised ratio: the log-ratio without its drift and times the step's sigma, so that every "
        "step's ratio has mean 1 and the same spread before it is clipped; stores the steps' means. Its spread is that "
        "of sigma times the log-ratio: choose train_clip_range for it.",
    )
    advantage_normalization: Literal["auto", "group", "group_mean", "global"] = knob(
        "auto", "DDPO",
        "group: by the prompt group's mean and std; group_mean: group's mean, epoch's std; global: epoch's mean and "
        "std; auto: group where sample_group_size > 1, else global.",
    )
    per_prompt_stat_tracking: bool = knob(
        False, "DDPO", "Normalise by each prompt's own mean and std over past epochs, as TRL does."
    )
    per_prompt_stat_tracking_buffer_size: int = knob(16, "DDPO", "Rewards stored per prompt.", min=1)
    per_prompt_stat_tracking_min_count: int = knob(16, "DDPO", "With fewer rewards, the epoch's mean and std are used.",
                                                   min=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_train_batches(self.train_batch_size)
        if self.sample_eta == 0:
            raise ValueError(
                "sample_eta: expected a number > 0, got 0.0. DDPO needs stochastic steps; set for example 1.0."
            )
        if self.flow_sampler == "cps" and self.flow_noise_level > 1:
            raise ValueError(
                f"flow_noise_level: expected at most 1 with flow_sampler: cps, got {self.flow_noise_level:g}."
            )
        if self.train_ratio_norm and self.train_step_weighting != "none":
            raise ValueError(
                f"train_step_weighting: expected none with train_ratio_norm, got {self.train_step_weighting!r}: the "
                "norm weights each step by its sigma already."
            )
        low, high = self.train_step_window
        if low >= high:
            raise ValueError(f"train_step_window: expected [from, to] with from < to, got [{low}, {high}].")
        self.check_advantages(self.advantage_normalization)
