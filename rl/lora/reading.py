"""Read a LoRA and its config for an export. The folder may come from anybody, so every value is checked."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from reward.files.plain_yaml import read_plain_yaml
from reward.files.quoting import quoted, shortened
from rl.lora.adapter import WEIGHTS_NAME
from rl.models.loading import DENOISERS

_LAYER = re.compile(r".+\.lora_[AB]\.weight")


def read_settings(path: Path) -> dict[str, Any]:
    """Read a run's config.yaml and check the fields that an export needs; other fields are not checked.

    Raises:
        ValueError: not YAML, or a field has the wrong type.
    """
    settings = read_plain_yaml(path)
    kinds = {"model": str, "prompts": (str, type(None)), "rewards": (list, type(None)),
             "ema_decay": (int, float, type(None))}  # fmt: skip
    wrong = [] if isinstance(settings, dict) else ["everything"]
    wrong = wrong or [name for name, kind in kinds.items() if not isinstance(settings.get(name), kind)]
    if wrong:
        raise ValueError(f"Expected a run's config in {path}, got a wrong type for {wrong[0]}. Copy it from the run.")
    return settings | {"rewards": list(map(str, settings.get("rewards") or []))}


def read_weights(folder: Path) -> tuple[str, dict[str, torch.Tensor], dict[str, Any]]:
    """Read the LoRA file of a folder.

    Returns:
        the denoiser's name in its pipeline, the weights under PEFT's names, and PEFT's config from the file's header.

    Raises:
        FileNotFoundError: no file.
        ValueError: a damaged file, a header without rank and alpha, or a header that does not fit the weights.
    """
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise FileNotFoundError(f"Expected {WEIGHTS_NAME} in {folder}, found none.")
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        names = list(metadata.items())
    # KeyError: a data type that torch does not have; AttributeError: the header is not a mapping
    except (SafetensorError, AttributeError, KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"Expected a LoRA in {path} but could not read it: {error}. Fetch it again.") from error
    denoiser = next(iter(tensors), "").partition(".")[0]
    denoiser = denoiser if denoiser in DENOISERS else DENOISERS[0]
    foreign = [name for name in tensors if not name.startswith(f"{denoiser}.")]
    if foreign:
        raise ValueError(f"Expected layers of one denoiser ({' or '.join(DENOISERS)}) in {path}, got {foreign[0]}.")
    own = f"{denoiser}."
    config = {name.removeprefix(own): value for name, value in names if name.startswith(own)}
    missing = [name for name in ("r", "lora_alpha", "target_modules") if name not in config]
    if missing:
        raise ValueError(
            f"Expected r, lora_alpha and target_modules in the header of {path}, got no {', '.join(missing)}. Without "
            "them every loader assumes alpha = rank. Export from a file that the trainer wrote."
        )
    layers = {name.removeprefix(own): tensor for name, tensor in tensors.items()}
    if denoiser == "unet":
        try:
            layers = convert_unet_state_dict_to_peft(layers)
        # convert_unet_state_dict_to_peft parses the names
        except (IndexError, KeyError, ValueError) as error:
            said = shortened(repr(error))
            raise ValueError(f"Expected names of a UNet's layers in {path}, got others: {said}.") from error
    _check_adapter(config, layers, path)
    return denoiser, layers, config


def _check_adapter(config: dict[str, Any], layers: dict[str, torch.Tensor], path: Path) -> None:
    """Check that the header fits the tensors. A false rank would make a loader allocate any amount of memory."""
    odd = [name for name, tensor in layers.items() if not _LAYER.fullmatch(name) or not tensor.dim()]
    if odd or not layers:
        got = repr(odd[0]) if odd else "none"
        raise ValueError(f"Expected tensors LAYER.lora_A.weight and LAYER.lora_B.weight in {path}, got {got}.")
    rank, alpha, targets = config["r"], config["lora_alpha"], config["target_modules"]
    if type(rank) is not int or rank not in {len(tensor) for name, tensor in layers.items() if ".lora_A." in name}:
        raise ValueError(f"Expected r in the header of {path} to be the rank of its layers, got {quoted(rank)}.")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not abs(alpha) < 1e6:
        raise ValueError(f"Expected a number as lora_alpha in the header of {path}, got {str(alpha)[:80]}.")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise ValueError(f"Expected a list of names as target_modules in the header of {path}, got {quoted(targets)}.")
