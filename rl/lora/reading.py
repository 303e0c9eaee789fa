"""A LoRA and its config as an export reads them: from a folder of anybody, so nothing in them is taken on trust."""

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
    """A run's config.yaml with what an export reads of it; whether it would still train is no matter.

    Raises:
        ValueError: not YAML, or values of another kind.
    """
    settings = read_plain_yaml(path)
    kinds = {"model": str, "prompts": (str, type(None)), "rewards": (list, type(None)),
             "ema_decay": (int, float, type(None))}  # fmt: skip
    wrong = [] if isinstance(settings, dict) else ["everything"]
    wrong = wrong or [name for name, kind in kinds.items() if not isinstance(settings.get(name), kind)]
    if wrong:
        raise ValueError(f"Expected a run's config in {path}, got {wrong[0]} of another kind. Copy it from the run.")
    return settings | {"rewards": list(map(str, settings.get("rewards") or []))}


def read_weights(folder: Path) -> tuple[str, dict[str, torch.Tensor], dict[str, Any]]:
    """The denoiser's name in its pipeline, weights under PEFT's names, and PEFT's config from the file's header.

    Raises:
        FileNotFoundError: no file.
        ValueError: a damaged file; a header that does not say rank and alpha, or says what the weights are not.
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
    # KeyError: a data type that torch does not have; AttributeError: a header that is no mapping
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
            f"Expected r, lora_alpha and target_modules in the header of {path}, got no {', '.join(missing)}. "
            "Every loader would guess alpha = rank; export from a file that the trainer wrote."
        )
    layers = {name.removeprefix(own): tensor for name, tensor in tensors.items()}
    if denoiser == "unet":
        try:
            layers = convert_unet_state_dict_to_peft(layers)
        # it parses the names
        except (IndexError, KeyError, ValueError) as error:
            said = shortened(repr(error))
            raise ValueError(f"Expected the names of a UNet's layers in {path}, got trouble: {said}.") from error
    _check_adapter(config, layers, path)
    return denoiser, layers, config


def _check_adapter(config: dict[str, Any], layers: dict[str, torch.Tensor], path: Path) -> None:
    """The header decides how much memory a loader takes; it must be what the tensors beside it are."""
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
