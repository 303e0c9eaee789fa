"""The LoRA of a denoiser: add, save, load. The file format is diffusers' own, with alpha in the header."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from reward.files.writing import naming, scratch_beside
from rl.models.loading import denoiser_name

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
ADAPTER = "default"


def add_lora(denoiser: Any, *, rank: int, alpha: float, targets: list[str], seed: int) -> list[torch.nn.Parameter]:
    """Freeze `denoiser` and add a LoRA with its `add_adapter`.

    B starts at 0, so the policy starts as the base model. A is Gaussian, drawn from `seed`.

    Args:
        denoiser: a diffusers UNet or transformer; changed in place.
        rank: of the LoRA.
        alpha: the LoRA is scaled by alpha / rank.
        targets: ends of the names of the layers that get a LoRA.
        seed: of A.

    Returns:
        the LoRA's parameters, float32; only these are trained.

    Raises:
        ValueError: no layer matches `targets`.
    """
    from peft import LoraConfig

    denoiser.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            denoiser.add_adapter(config, adapter_name=ADAPTER)
        except ValueError as error:
            raise ValueError(
                f"lora_targets: no layer of the denoiser ends in one of {list(targets)}: {error}"
            ) from error
    parameters = lora_parameters(denoiser)
    for parameter in parameters:
        parameter.data = parameter.data.float()
    return parameters


def lora_parameters(denoiser: Any) -> list[torch.nn.Parameter]:
    """The trainable parameters, in the module's order."""
    return [parameter for parameter in denoiser.parameters() if parameter.requires_grad]


@contextlib.contextmanager
def scaled_lora(denoiser: Any, factor: float) -> Iterator[None]:
    """Within the context the LoRA is scaled by `factor`: 0 is the base model, 1 the LoRA as trained."""
    layers = [module for module in denoiser.modules() if ADAPTER in getattr(module, "scaling", {})]
    own = [layer.scaling[ADAPTER] for layer in layers]
    for layer, scale in zip(layers, own, strict=True):
        layer.scaling[ADAPTER] = scale * factor
    try:
        yield
    finally:
        for layer, scale in zip(layers, own, strict=True):
            layer.scaling[ADAPTER] = scale


def save_lora(denoiser: Any, pipeline_class: Any, folder: Path) -> Path:
    """Write `pytorch_lora_weights.safetensors` for `pipeline_class.load_lora_weights`, atomically; returns its path."""
    from peft.utils import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    # Use PEFT's names. diffusers' older names cover attention layers only, and its loader silently drops them from a
    # file that mixes both.
    layers = get_peft_model_state_dict(denoiser, adapter_name=ADAPTER)
    layers = {layer: tensor.detach().cpu().contiguous() for layer, tensor in layers.items()}
    name, metadata = denoiser_name(pipeline_class), denoiser.peft_config[ADAPTER].to_dict()
    scratch = scratch_beside(folder / WEIGHTS_NAME)
    with naming(folder / WEIGHTS_NAME):
        scratch.mkdir()
        try:
            # The header holds rank and alpha. Without it every loader assumes alpha = rank.
            pipeline_class.save_lora_weights(
                scratch, **{f"{name}_lora_layers": layers, f"{name}_lora_adapter_metadata": metadata}
            )
            (scratch / WEIGHTS_NAME).replace(folder / WEIGHTS_NAME)
        finally:
            shutil.rmtree(scratch)
    return folder / WEIGHTS_NAME


def load_lora(denoiser: Any, pipeline_class: Any, folder: Path) -> None:
    """Load weights that `save_lora` wrote into the LoRA that `denoiser` already has.

    Raises:
        FileNotFoundError: no weights in `folder`.
        ValueError: the file is damaged, or its rank, alpha or layers differ from the denoiser's LoRA.
    """
    from diffusers.utils import convert_unet_state_dict_to_peft
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    if not (folder / WEIGHTS_NAME).is_file():
        raise FileNotFoundError(f"Expected {WEIGHTS_NAME} in {folder}, found none.")
    try:
        # Without use_safetensors, diffusers would load a pickle from the folder if it cannot read this file.
        weights, *_, metadata = pipeline_class.lora_state_dict(
            folder, weight_name=WEIGHTS_NAME, return_lora_metadata=True, use_safetensors=True
        )
    # diffusers parses names and header, and can raise almost any exception for a malformed file.
    except Exception as error:
        raise ValueError(f"Expected a LoRA in {folder / WEIGHTS_NAME} but could not read it: {error}") from error
    prefix = f"{denoiser_name(pipeline_class)}."
    weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    if prefix == "unet.":
        weights = convert_unet_state_dict_to_peft(weights)
    expected = get_peft_model_state_dict(denoiser, adapter_name=ADAPTER)
    differing = set(weights) ^ set(expected)
    if differing:
        raise ValueError(
            f"Expected the layers of the denoiser's LoRA, got other ones: {sorted(differing)[:3]} ... Use the "
            "lora_targets of the saved run."
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"Expected shape {tuple(expected[name].shape)} at {name}, got {tuple(tensor.shape)}. "
                "Use the lora_rank of the saved run."
            )
    alpha, own = (metadata or {}).get(f"{prefix}lora_alpha"), denoiser.peft_config[ADAPTER].lora_alpha
    if alpha is not None and alpha != own:
        raise ValueError(f"Expected lora_alpha {own}, got {alpha} in {folder}. Use the lora_alpha of the saved run.")
    set_peft_model_state_dict(denoiser, weights, adapter_name=ADAPTER)
