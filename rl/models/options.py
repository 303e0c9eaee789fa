"""What a config asks of a pipeline beyond its weights: less memory, or a compiled denoiser."""

from typing import Any

import torch

from rl.config.train_config import TrainConfig
from rl.models.loading import denoiser_name

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def prepare_pipeline(pipeline: Any, config: TrainConfig, device: torch.device) -> None:
    """Move a pipeline to its device and precision; switch on checkpointing, slicing, tiling and compilation.

    Args:
        pipeline: changed in place.
        config: mixed_precision, train_gradient_checkpointing, vae_slicing, vae_tiling, torch_compile.
        device: where it goes.
    """
    denoiser = getattr(pipeline, denoiser_name(pipeline))
    pipeline.to(device)
    if denoiser.dtype != DTYPES[config.mixed_precision]:
        pipeline.to(DTYPES[config.mixed_precision])
    # Convolutions run faster so, on CPU (about 5 % of a rollout) and GPU; the values stay the same.
    denoiser.to(memory_format=torch.channels_last)
    if config.train_gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    if config.vae_slicing:
        pipeline.vae.enable_slicing()
    if config.vae_tiling:
        pipeline.vae.enable_tiling()
    if config.torch_compile:
        # In place: the module stays the one whose layers get a LoRA, are wrapped and are saved.
        denoiser.compile()
