"""Apply a config's options to a pipeline: device, precision, memory savings, compilation."""

from typing import Any

import torch

from rl.config.train_config import TrainConfig
from rl.models.loading import denoiser_name

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def prepare_pipeline(pipeline: Any, config: TrainConfig, device: torch.device) -> None:
    """Move a pipeline to its device and precision, and turn on checkpointing, slicing, tiling and compilation.

    Args:
        pipeline: changed in place.
        config: gives mixed_precision, train_gradient_checkpointing, vae_slicing, vae_tiling, torch_compile.
        device: to move to.
    """
    denoiser = getattr(pipeline, denoiser_name(pipeline))
    pipeline.to(device)
    if denoiser.dtype != DTYPES[config.mixed_precision]:
        pipeline.to(DTYPES[config.mixed_precision])
    # Convolutions are faster in this layout, on CPU (a rollout by about 5 %) and GPU. The values do not change.
    # torch refuses the layout for weights with five dimensions, which convolutions over frames have.
    if all(parameter.dim() < 5 for parameter in denoiser.parameters()):
        denoiser.to(memory_format=torch.channels_last)
    if config.train_gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    if config.vae_slicing:
        pipeline.vae.enable_slicing()
    if config.vae_tiling:
        pipeline.vae.enable_tiling()
    if config.torch_compile:
        # compile() works in place, so adding the LoRA, wrapping for several processes and saving use the same module.
        denoiser.compile()
