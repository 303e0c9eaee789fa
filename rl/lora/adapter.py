"""The LoRA of a denoiser: add, save, load. Files are diffusers' own, alpha in their header."""

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
    """Freeze `denoiser` and add a LoRA by its `add_adapter`; returns its parameters, float32, the only trained ones.

    B starts at 0, so the policy starts as the base model; A is Gaussian, drawn from `seed`.

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
    """The trained parameters, in the module's order."""
    return [parameter for parameter in denoiser.parameters() if parameter.requires_grad]


@contextlib.contextmanager
def scaled_lora(denoiser: Any, factor: float) -> Iterator[None]:
    """Inside, the LoRA acts with `factor` times its weight: 0 is the base model, 1 the LoRA as it is."""
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
    """Write `pytorch_lora_weights.safetensors` as `pipeline_class.load_lora_weights` reads it; whole or not at all."""
    from peft.utils import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    # PEFT's names: diffusers' older ones cover attention alone, and of a mixture its loader silently drops that part.
    layers = get_peft_model_state_dict(denoiser, adapter_name=ADAPTER)
    layers = {layer: tensor.detach().cpu().contiguous() for layer, tensor in layers.items()}
    name, metadata = denoiser_name(pipeline_class), denoiser.peft_config[ADAPTER].to_dict()
    scratch = scratch_beside(folder / WEIGHTS_NAME)
    with naming(folder / WEIGHTS_NAME):
        scratch.mkdir()
        try:
            # The header carries rank and alpha: without it every loader assumes alpha = rank.
            pipeline_class.save_lora_weights(
                scratch, **{f"{name}_lora_layers": layers, f"{name}_lora_adapter_metadata": metadata}
            )
            (scratch / WEIGHTS_NAME).replace(folder / WEIGHTS_NAME)
        finally:
            shutil.rmtree(scratch)
    return folder / WEIGHTS_NAME


def load_lora(denoiser: Any, pipeline_class: Any, folder: Path) -> None:
    """Read weights that `save_lora` wrote into the LoRA that `denoiser` already has.

    Raises:
        FileNotFoundError: no weights in `folder`.
        ValueError: a damaged file; rank, alpha or layers differ from the LoRA in place.
    """
    from diffusers.utils import convert_unet_state_dict_to_peft
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    if not (folder / WEIGHTS_NAME).is_file():
        raise FileNotFoundError(f"Expected {WEIGHTS_NAME} in {folder}, found none.")
    try:
        # without use_safetensors diffusers turns to a pickle beside a file that it cannot read
        weights, *_, metadata = pipeline_class.lora_state_dict(
            folder, weight_name=WEIGHTS_NAME, return_lora_metadata=True, use_safetensors=True
        )
    # diffusers parses names and header: what it raises for others' files has no end
    except Exception as error:
        raise ValueError(f"Expected a LoRA in {folder / WEIGHTS_NAME} but could not read it: {error}") from error
    prefix = f"{denoiser_name(pipeline_class)}."
    weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    if prefix == "unet.":
        weights = convert_unet_state_dict_to_peft(weights)
    expected = get_peft_model_state_dict(denoiser, adapter_name=ADAPTER)
    differing = set(weights) ^ set(expected)
    if differing:
        raise ValueError(f"Expected the layers of the LoRA in place, got another set: {sorted(differing)[:3]} ...")
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
