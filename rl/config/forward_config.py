"""Configs of the forward-process rules: noise levels, the old LoRA, and the settings of each rule."""

from dataclasses import dataclass
from typing import Literal

from rl.config.fields import knob
from rl.config.train_config import TrainConfig


@dataclass
class ForwardConfig(TrainConfig):
    """`TrainConfig` plus the settings that NFT, matching and DPO share. They train on final pictures with new noise.

    They work with any sampler and guidance: `sample_eta` may be 0, and `sample_guidance_scale` is for the rollout only.
    """

    train_batch_size: int = knob(
        8, "forward process", "Pictures (DPO: pairs) per forward pass and process, each with all its noise levels.",
        min=1,
    )
    train_num_inner_epochs: int = knob(1, "forward process", "Passes over an epoch's pictures, with new noise.", min=1)
    train_guidance_scale: float = knob(
        1.0, "forward process", "Guidance in training passes, independent of the rollout's; <= 1: none.", min=0
    )
    noise_levels: Literal["sampler", "uniform", "logit_normal"] = knob(
        "uniform", "forward process",
        "Noise levels for training, stratified for each picture: those of the sampler's steps, uniform over all, or "
        "logit-normal around the middle.",
    )
    visited_share: float = knob(
        0.0, "forward process",
        "Share of the pictures that are trained on at the states that the sampler visited, at its own noise levels, "
        "instead of with new noise. In few steps the two differ. Needs every process's states in memory.",
        min=0, max=1,
    )
    noise_levels_per_picture: int = knob(2, "forward process", "Noise levels per picture and pass.", min=1)
    train_adv_clip_max: float = knob(5.0, "forward process", "Advantages are clipped to +- this.", above=0)
    advantage_normalization: Literal["auto", "group", "group_mean", "global"] = knob(
        "auto", "forward process",
        "group: by the prompt group's mean and std; group_mean: group's mean, epoch's std; global: epoch's mean and "
        "std; auto: group where sample_group_size > 1, else global.",
    )
    old_decay_rate: float = knob(
        0.001, "forward process",
        "After epoch n, the old LoRA, which samples, becomes d old + (1 - d) new, with d = min(old_decay_rate n, "
        "old_decay_limit). 0: it is always the new one.", min=0,
    )
    old_decay_limit: float = knob(0.5, "forward process", "Largest d of the old LoRA.", min=0, max=0.9999)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_train_batches(self.train_batch_size)
        self.check_advantages(self.advantage_normalization)


@dataclass
class NFTConfig(ForwardConfig):
    """DiffusionNFT (arXiv:2509.16117): a positive loss on good pictures and a negative one on bad pictures."""

    nft_beta: float = knob(
        1.0, "NFT", "Distance of the positive and negative predictions from the old one, as a multiple of the new "
        "one's.", above=0,
    )


@dataclass
class MatchingConfig(ForwardConfig):
    """Advantage-weighted matching: a policy gradient whose log-ratio is a difference of denoising errors."""

    matching_clip_range: float = knob(
        0.0, "matching", "PPO clip range of exp(mse_old - mse_new); 0: not clipped.", min=0
    )
    matching_weight: Literal["velocity", "clean"] = knob(
        "velocity", "matching",
        "Errors of the velocity (equal weight for every noise level), or of the clean prediction (more weight for "
        "noisy ones).",
    )


@dataclass
class DPOConfig(ForwardConfig):
    """Online Diffusion-DPO (arXiv:2311.12908) on the best and the worst picture of each prompt's group."""

    dpo_beta: float = knob(100.0, "DPO", "Sharpness of the preference; large: small differences count.", above=0)
    dpo_reference: Literal["old", "base"] = knob(
        "old", "DPO", "Reference model: the old LoRA, which sampled the pictures, or the base model."
    )

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if self.sample_group_size < 2:
            raise ValueError(
                f"sample_group_size: expected at least 2, got {self.sample_group_size}. DPO compares the best and the "
                "worst picture of a prompt."
            )
