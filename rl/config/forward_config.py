"""What the forward-process rules can be told: noise levels, the old LoRA, and each rule's own few numbers."""

from dataclasses import dataclass
from typing import Literal

from rl.config.fields import knob
from rl.config.train_config import TrainConfig


@dataclass
class ForwardConfig(TrainConfig):
    """What NFT, matching and DPO share on top of `TrainConfig`: they train on final pictures, noised anew.

    Sampler and guidance of the rollout are free: `sample_eta` may be 0, `sample_guidance_scale` is the rollout's alone.
    """

    train_batch_size: int = knob(
        8, "forward process", "Pictures (DPO: pairs) a forward pass and process; each with all its noise levels.",
        min=1,
    )
    train_num_inner_epochs: int = knob(1, "forward process", "Passes over an epoch's pictures, with new noise.", min=1)
    train_guidance_scale: float = knob(
        1.0, "forward process", "Guidance in the training pass; <= 1: none, whatever the rollout has.", min=0
    )
    noise_levels: Literal["sampler", "uniform", "logit_normal"] = knob(
        "uniform", "forward process",
        "Noise levels that pictures are trained at, stratified for each picture: those of the sampler's own steps, "
        "uniform over all, or logit-normal around the middle.",
    )
    noise_levels_per_picture: int = knob(2, "forward process", "Noise levels a picture and pass.", min=1)
    train_adv_clip_max: float = knob(5.0, "forward process", "Advantages are clipped to +- this.", above=0)
    advantage_normalization: Literal["auto", "group", "group_mean", "global"] = knob(
        "auto", "forward process",
        "group: by the prompt group's mean and std; group_mean: group's mean, epoch's std; global: epoch's mean and "
        "std; auto: group where sample_group_size > 1, else global.",
    )
    old_decay_rate: float = knob(
        0.001, "forward process",
        "The old LoRA, which samples, becomes d old + (1 - d) new after epoch n: d = min(old_decay_rate n, "
        "old_decay_limit). 0: it always is the newest.", min=0,
    )
    old_decay_limit: float = knob(0.5, "forward process", "Largest d of the old LoRA.", min=0, max=0.9999)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_train_batches(self.train_batch_size)
        self.check_advantages(self.advantage_normalization)


@dataclass
class NFTConfig(ForwardConfig):
    """DiffusionNFT (arXiv:2509.16117): good pictures pull the prediction to them, bad ones push its mirror image."""

    nft_beta: float = knob(
        1.0, "NFT", "How far the positive and the negative prediction lie from the old one, in steps of the new one's "
        "distance.", above=0,
    )


@dataclass
class MatchingConfig(ForwardConfig):
    """Advantage-weighted matching: a policy gradient whose log-ratio is a difference of denoising errors."""

    matching_clip_range: float = knob(
        0.0, "matching", "PPO clip range of exp(mse_old - mse_new); 0: not clipped.", min=0
    )
    matching_weight: Literal["velocity", "clean"] = knob(
        "velocity", "matching",
        "Errors are measured on the velocity (every noise level counts alike) or on the clean prediction (noisy ones "
        "count more).",
    )


@dataclass
class DPOConfig(ForwardConfig):
    """Online Diffusion-DPO (arXiv:2311.12908) on the best and the worst picture of each prompt's group."""

    dpo_beta: float = knob(100.0, "DPO", "Sharpness of the preference; large: small differences suffice.", above=0)
    dpo_reference: Literal["old", "base"] = knob(
        "old", "DPO", "What preferences are relative to: the old LoRA, which drew the pictures, or the base model."
    )

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if self.sample_group_size < 2:
            raise ValueError(
                f"sample_group_size: expected at least 2, got {self.sample_group_size}. DPO compares the best and the "
                "worst picture of a prompt."
            )
