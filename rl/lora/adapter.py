"""The LoRA of a UNet: add, save, load. Files are diffusers' own, alpha in their header."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from reward.files.writing import naming, scratch_beside

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
ADAPTER = "default"


def add_lora(unet: Any, *, rank: int, alpha: float, targets: list[str], seed: int) -> list[torch.nn.Parameter]:
    """Freeze `unet` and add a LoRA through `unet.add_adapter`; returns its parameters, float32, the only trained ones.

    B starts at 0, so the policy starts as the base model; A is Gaussian, drawn from `seed`.

    Raises:
        ValueError: no layer matches `targets`.
    """
    from peft import LoraConfig

    unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            unet.add_adapter(config, adapter_name=ADAPTER)
        except ValueError as error:
            raise ValueError(f"lora_targets: no layer of the UNet ends in one of {list(targets)}: {error}") from error
    parameters = lora_parameters(unet)
    for parameter in parameters:
        parameter.data = parameter.data.float()
    return parameters


def lora_parameters(unet: Any) -> list[torch.nn.Parameter]:
    """The trained parameters, in the module's order."""
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


@contextlib.contextmanager
def scaled_lora(unet: Any, factor: float) -> Iterator[None]:
    """Inside, the LoRA acts with `factor` times its weight: 0 is the base model, 1 the LoRA as it is."""
    layers = [module for module in unet.modules() if ADAPTER in getattr(module, "scaling", {})]
    own = [layer.scaling[ADAPTER] for layer in layers]
    for layer, scale in zip(layers, own, strict=True):
        layer.scaling[ADAPTER] = scale * factor
    try:
        yield
    finally:
        for layer, scale in zip(layers, own, strict=True):
            layer.scaling[ADAPTER] = scale


def save_lora(unet: Any, pipeline_class: Any, folder: Path) -> Path:
    """Write `pytorch_lora_weights.safetensors` as `pipeline_class.load_lora_weights` reads it; whole or not at all."""
    from peft.utils import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    # PEFT's names: diffusers' older ones cover attention alone, and of a mixture its loader silently drops that part.
    layers = get_peft_model_state_dict(unet, adapter_name=ADAPTER)
    layers = {name: tensor.detach().cpu().contiguous() for name, tensor in layers.items()}
    scratch = scratch_beside(folder / WEIGHTS_NAME)
    with naming(folder / WEIGHTS_NAME):
        scratch.mkdir()
        try:
            # The header carries rank and alpha: without it every loader assumes alpha = rank.
            pipeline_class.save_lora_weights(
                scratch, unet_lora_layers=layers, unet_lora_adapter_metadata=unet.peft_config[ADAPTER].to_dict()
            )
            (scratch / WEIGHTS_NAME).replace(folder / WEIGHTS_NAME)
        finally:
            shutil.rmtree(scratch)
    return folder / WEIGHTS_NAME


def load_lora(unet: Any, pipeline_class: Any, folder: Path) -> None:
    """Read weights that `save_lora` wrote into the LoRA that `unet` already has.

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
        weights, _, metadata = pipeline_class.lora_state_dict(
            folder, weight_name=WEIGHTS_NAME, return_lora_metadata=True, use_safetensors=True
        )
    # diffusers parses names and header: what it raises for others' files has no end
    except Exception as error:
        raise ValueError(f"Expected a LoRA in {folder / WEIGHTS_NAME} but could not read it: {error}") from error
    weights = {name.removeprefix("unet."): tensor for name, tensor in weights.items()}
    weights = convert_unet_state_dict_to_peft(weights)
    expected = get_peft_model_state_dict(unet, adapter_name=ADAPTER)
    differing = set(weights) ^ set(expected)
    if differing:
        raise ValueError(f"Expected the layers of the LoRA in place, got another set: {sorted(differing)[:3]} ...")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"Expected shape {tuple(expected[name].shape)} at {name}, got {tuple(tensor.shape)}. "
                "Use the lora_rank of the saved run."
            )
    alpha, own = (metadata or {}).get("unet.lora_alpha"), unet.peft_config[ADAPTER].lora_alpha
    if alpha is not None and alpha != own:
        raise ValueError(f"Expected lora_alpha {own}, got {alpha} in {folder}. Use the lora_alpha of the saved run.")
    set_peft_model_state_dict(unet, weights, adapter_name=ADAPTER)
