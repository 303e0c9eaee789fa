"""The config of a fine-tuning run: the fields that all update rules share.

The names are a superset of TRL 0.23.1's `DDPOConfig`. Every field has its help, its group on the `--help` page and its
range. All values are checked when the object is made.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reward.files.quoting import quoted
from rl.config.fields import check_value, knob


@dataclass
class TrainConfig:
    """Settings of every run: model, rewards, prompts, sampling, LoRA, optimiser, evaluation, run folder.

    Raises:
        ValueError: a value has the wrong type or lies outside its range; the message names the field.
    """

    exp_name: str = knob("hyperalign", "run", "Name of the experiment in the tracker.")
    run_name: str = knob("", "run", "Name of this run in the tracker; empty: the experiment's name.")
    output_dir: str = knob("runs/ddpo", "run", "Run folder. An earlier run in it is moved aside, not deleted.")
    resume_from: str = knob("", "run", "Run folder, or one of its checkpoints, to continue.")
    seed: int = knob(0, "run", "Seed of all random numbers; same seed, same run.", min=0)
    num_epochs: int = knob(100, "run", "Epochs; each samples, scores and updates.", min=0)
    max_train_seconds: float = knob(
        0.0,
        "run",
        "Stop at the end of the epoch in which this training time is over; 0: never. "
        "The learning-rate schedule follows epochs, so such a run ends before the rate has decayed.",
        min=0,
    )
    num_threads: int = knob(0, "run", "CPU threads for torch; 0: torch's default.", min=0)
    save_freq: int = knob(10, "run", "Epochs between checkpoints; the end is always saved.", min=1)
    num_checkpoint_limit: int = knob(5, "run", "Newest checkpoints to keep.", min=1)
    log_with: Literal["auto", "tensorboard", "wandb", "trackio"] | None = knob(
        "auto", "run", "Tracker; auto: tensorboard where it is installed; none: only the run folder."
    )
    logdir: str = knob("logs", "run", "Tracker folder, inside output_dir unless absolute.")
    tracker_project_name: str = knob("hyperalign", "run", "Project name in the tracker.")
    tracker_kwargs: dict = knob({}, "run", "Extra keyword arguments for the tracker, as YAML.")
    accelerator_kwargs: dict = knob({}, "run", "Extra keyword arguments for accelerate.Accelerator, as YAML.")
    project_kwargs: dict = knob({}, "run", "Extra keyword arguments for accelerate's ProjectConfiguration, as YAML.")
    mixed_precision: Literal["no", "fp16", "bf16"] = knob(
        "no", "run", "Autocast of the denoiser; latents, log-probs and LoRA weights stay float32."
    )
    train_gradient_checkpointing: bool = knob(
        False, "run", "Recompute the denoiser's activations in the backward pass: a third slower, much less memory."
    )
    vae_slicing: bool = knob(False, "run", "Decode one picture at a time: less memory for large batches.")
    vae_tiling: bool = knob(False, "run", "Decode large pictures tile by tile: less memory, faint seams.")
    torch_compile: bool = knob(
        False, "run",
        "Compile the denoiser with torch.compile: takes minutes at the start, then steps are faster. Rounding differs "
        "with and without gradients, so ratios before the first update are not exactly 1; watch ratio_mean.",
    )
    allow_tf32: bool = knob(True, "run", "Allow TF32 matrix products on Ampere and later.")
    push_to_hub: bool = knob(False, "run", "A field of TRL, not supported here; export the LoRA instead.")

    model: str = knob(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", "model", "Diffusers pipeline: folder or hub id."
    )
    resolution: int = knob(0, "model", "Picture side in pixels; 0: the model's own.", min=0)
    max_sequence_length: int = knob(
        0, "model",
        "Text tokens of a flow-matching model (T5's, or the chat model's), as its pipeline counts them; 0: the "
        "pipeline's own number. Fewer are faster; later, sample with the same number.",
        min=0,
    )
    lora_rank: int = knob(16, "model", "Rank of the LoRA.", min=1)
    lora_alpha: float = knob(16.0, "model", "Alpha of the LoRA; its weight is alpha / rank.", above=0)
    lora_targets: list[str] = knob(
        [], "model",
        "Layers that get a LoRA, by the ends of their names; none: the family's defaults.",
    )
    ema_decay: float = knob(0.0, "model", "Decay of the LoRA's moving average, evaluated and saved; 0: off.",
                            min=0, max=0.99999)

    rewards: list[str] = knob(
        [], "rewards and prompts",
        "What is maximised: module:function=weight | module:factory@SOURCE=weight | "
        "hyperalign:FOLDER_OR_HUB_ID=weight | hyperalign:OPEN_CLIP_NAME/TAG=weight | "
        "aesthetic:HEAD.safetensors[@BACKBONE/PRETRAINED]=weight | clipscore | pickscore | hpsv2 | vqascore@CAPTIONER "
        "| imscore@MODULE.CLASS:HUB_ID (each =weight) | http://HOST:PORT/compute=weight | "
        "flow-grpo+http://HOST:PORT=weight, one or more.",
    )
    reward_normalization: Literal["none", "epoch", "group"] = knob(
        "none", "rewards and prompts",
        "Normalise each reward before the weighted sum, for rewards of different scales. epoch: mean 0 and std 1 over "
        "the epoch's pictures; group: over each prompt group. The log has the raw rewards.",
    )
    reward_aggregation: Literal["sum", "min"] = knob(
        "sum", "rewards and prompts",
        "sum: weighted sum of the rewards; min: the smallest weighted reward. With min, an ensemble of rewards of the "
        "same scale is harder to fool, because every reward must be fooled.",
    )
    eval_rewards: list[str] = knob(
        [], "rewards and prompts", "Held-out rewards in the same form: measured, never trained on."
    )
    prompts: str = knob("", "rewards and prompts", 
                        "Training prompts: text file, one a line | FILE.jsonl, its other fields for the rewards' "
                        "metadata | module:function | datasets:NAME_OR_FOLDER"
                        "[?split=train&column=prompt].")
    eval_prompts: str = knob("", "rewards and prompts", "Evaluation prompts, likewise; empty: the training prompts.")
    negative_prompts: str = knob("", "rewards and prompts", "Negative prompt for guidance.")

    sample_num_steps: int = knob(50, "sampling", "Denoising steps.", min=1, max=1000)
    sample_eta: float = knob(1.0, "sampling", "Eta of DDIM: 0 deterministic, 1 as noisy as DDPM.", min=0, max=1)
    sample_guidance_scale: float = knob(5.0, "sampling", "Guidance in training; <= 1: none, at half the cost.", min=0)
    sample_batch_size: int = knob(8, "sampling", "Pictures per batch and process.", min=1)
    sample_num_batches_per_epoch: int = knob(8, "sampling", "Batches per epoch and process.", min=1)
    sample_group_size: int = knob(
        1, "sampling", "Pictures per prompt; a group may span batches and processes.", min=1
    )

    train_gradient_accumulation_steps: int = knob(
        1, "optimisation", "Train batches per optimiser step; it has all trained steps of each batch.", min=1
    )
    train_learning_rate: float = knob(3e-4, "optimisation", "Learning rate.", above=0)
    lr_schedule: Literal["constant", "linear", "cosine"] = knob(
        "constant", "optimisation", "Schedule of the learning rate over num_epochs; linear and cosine end at 0."
    )
    train_use_8bit_adam: bool = knob(False, "optimisation", "8-bit Adam of bitsandbytes.")
    train_adam_beta1: float = knob(0.9, "optimisation", "Adam beta1.", min=0, max=0.99999)
    train_adam_beta2: float = knob(0.999, "optimisation", "Adam beta2.", min=0, max=0.9999999)
    train_adam_weight_decay: float = knob(1e-4, "optimisation", "Adam weight decay.", min=0)
    train_adam_epsilon: float = knob(1e-8, "optimisation", "Adam epsilon.", above=0)
    train_max_grad_norm: float = knob(1.0, "optimisation", "Gradient norm is clipped to this.", above=0)

    train_kl_weight: float = knob(
        0.0, "optimisation",
        "Weight of a penalty on the trained steps' KL divergence from the base model, mean over latent dimensions like "
        "log-probs; costs one more forward pass per step, without gradient. 0: none.", min=0,
    )

    async_reward_computation: bool = knob(
        False, "rewards and prompts", "Score a batch in the background while the next one is sampled."
    )
    max_workers: int = knob(2, "rewards and prompts", "Threads for async_reward_computation.", min=1)
    reward_timeout: float = knob(
        0.0, "rewards and prompts",
        "Seconds that one reward may take for a batch before the run ends with an error; for rewards on a server. "
        "0: no limit.", min=0,
    )

    grid_freq: int = knob(10, "evaluation", "Epochs between picture grids; the first and last are always saved.", min=1)
    eval_at_end: bool = knob(
        False, "evaluation", "After training, compare base and LoRA on eval_prompts; writes summary.json, report.html."
    )
    eval_num_prompts: int = knob(500, "evaluation", "Prompts in that comparison.", min=2)
    eval_guidance_scales: list[float] = knob(
        [1.0, 3.0, 5.0], "evaluation", "Guidance scales to try; base and LoRA are each judged at their own best.",
        min_items=1, min=0,
    )
    eval_lora_scales: list[float] = knob(
        [], "evaluation",
        "Strengths of the LoRA to try besides 1, at its best guidance, e.g. [0.25, 0.5, 0.75]. An over-optimised LoRA "
        "is often best below 1.", min=0,
    )
    eval_freq: int = knob(0, "evaluation", "Epochs between evaluations during training; 0: none.", min=0)
    eval_freq_num_prompts: int = knob(64, "evaluation", "Prompts per evaluation during training.", min=1)
    eval_freq_group_size: int = knob(
        2, "evaluation", "Pictures per prompt in those evaluations; with 1 their diversity is not measured.", min=1
    )
    eval_batch_size: int = knob(16, "evaluation", "Pictures per batch in evaluations.", min=1)
    early_stop_patience: int = knob(
        0, "evaluation",
        "Stop after this many evaluations (every eval_freq epochs) in a row without a new best one, and keep the best "
        "one's weights. Best: by the first of eval_rewards, or the reward if there are none. 0: never.", min=0,
    )
    early_stop_on_alarm: bool = knob(
        False, "evaluation",
        "Stop at the reward-hacking alarm, and keep the weights of the best evaluation by the same measure.",
    )
    eval_seed: int = knob(1234, "evaluation", "Seed of the evaluation's pictures.", min=0)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            setattr(self, item.name, check_value(item, getattr(self, item.name)))
        if self.push_to_hub:
            raise ValueError(
                "push_to_hub: expected false, got true. Training does not upload anything; upload the run folder "
                "afterwards with `hf upload REPO OUTPUT_DIR`."
            )
        # trackers use these as folder names
        name = self.tracker_project_name
        if not name.strip() or set(name) & set("/\\\0") or name in (".", ".."):
            raise ValueError(f"tracker_project_name: expected a name and no path, got {quoted(name)}.")
        if "\0" in self.logdir or (".." in Path(self.logdir).parts and not Path(self.logdir).is_absolute()):
            raise ValueError(
                f"logdir: expected a folder inside output_dir, got {quoted(self.logdir)}. For another give its full "
                "path."
            )
        for name in ("early_stop_patience", "early_stop_on_alarm"):
            if getattr(self, name) and not self.eval_freq:
                raise ValueError(
                    f"{name}: expected eval_freq > 0 with {name}: {getattr(self, name)}, got 0. Without evaluations "
                    "the run never stops early. Set eval_freq, for example to 10."
                )
        if self.reward_normalization == "group" and self.sample_group_size < 2:
            raise ValueError(
                "reward_normalization: 'group' compares pictures of one prompt, but sample_group_size is 1. Set "
                "sample_group_size to 2 or more, or use 'epoch'."
            )

    def check_groups(self, num_processes: int = 1) -> int:
        """Number of prompts per epoch, for `num_processes` processes.

        Raises:
            ValueError: the epoch's pictures are not divisible by the group size.
        """
        pictures = self.sample_batch_size * self.sample_num_batches_per_epoch * num_processes
        if pictures % self.sample_group_size:
            divisors = [d for d in range(1, pictures + 1) if pictures % d == 0]
            nearest = min(divisors, key=lambda d: abs(d - self.sample_group_size))
            raise ValueError(
                f"An epoch has sample_batch_size x sample_num_batches_per_epoch x processes = "
                f"{self.sample_batch_size} x {self.sample_num_batches_per_epoch} x {num_processes} = {pictures} "
                f"pictures, which is not divisible by sample_group_size = {self.sample_group_size}. Set for "
                f"example sample_group_size: {nearest}."
            )
        return pictures // self.sample_group_size

    def check_train_batches(self, train_batch_size: int) -> None:
        """Check that a process's pictures are divisible by the pictures of an optimiser step.

        Raises:
            ValueError: they are not; the message names a batch size that fits.
        """
        per_process = self.sample_batch_size * self.sample_num_batches_per_epoch
        per_step = train_batch_size * self.train_gradient_accumulation_steps
        if per_process % per_step:
            divisors = [d for d in range(1, per_process + 1) if per_process % d == 0]
            nearest = min(divisors, key=lambda d: abs(d - train_batch_size))
            raise ValueError(
                f"An epoch has sample_batch_size x sample_num_batches_per_epoch = {self.sample_batch_size} x "
                f"{self.sample_num_batches_per_epoch} = {per_process} pictures per process, which is not divisible by "
                f"train_batch_size x train_gradient_accumulation_steps = {train_batch_size} x "
                f"{self.train_gradient_accumulation_steps} = {per_step}. Set for example "
                f"train_batch_size: {nearest}, train_gradient_accumulation_steps: 1."
            )

    def check_advantages(self, mode: str) -> None:
        """Check that there are several pictures per prompt if the normalisation compares them.

        Raises:
            ValueError: there is only one.
        """
        if mode in ("group", "group_mean") and self.sample_group_size < 2:
            raise ValueError(
                f"advantage_normalization: {mode!r} compares pictures of one prompt, but sample_group_size is "
                f"{self.sample_group_size}. Set sample_group_size to 2 or more, or use 'global'."
            )

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0. It depends only on the epoch, so resuming needs no state."""
        share = epoch / max(self.num_epochs, 1)
        factor = {
            "constant": 1.0,
            "linear": 1.0 - share,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * share)),
        }[self.lr_schedule]
        return self.train_learning_rate * factor
