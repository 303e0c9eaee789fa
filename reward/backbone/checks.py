"""Safety checks of a backbone folder: it must not run code, load pickles, or fill the memory.

A folder may come from an untrusted source, and open_clip itself does not check it.
"""

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from reward.files.plain_json import read_object

# file names that open_clip prefers to any pickle in the same folder
_FIRST_CHOICE = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_PICKLES = ("*.bin", "*.pth")
# numbers that a model may have beyond its weights file: resized positions and buffers that are not saved
_SLACK = 2**22


def refuse_code(model_config: dict[str, Any], folder: Path | None, source: str) -> None:
    """Raise ValueError if a configuration asks to run Python code that comes with the model.

    Args:
        model_config: open_clip's `model_cfg`.
        folder: folder of a local model; its Hugging Face tower and tokenizer are checked too.
        source: where the configuration comes from, for the message.
    """
    text = model_config.get("text_cfg")
    options = text.get("tokenizer_kwargs") if isinstance(text, dict) else None
    asking = [source] if isinstance(options, dict) and options.get("trust_remote_code") else []
    if folder is not None and isinstance(text, dict):
        inside = [text.get("hf_model_name"), text.get("hf_tokenizer_name"), "."]
        places = {folder / name for name in inside if isinstance(name, str) and "\0" not in name}
        files = [place / name for place in places for name in ("config.json", "tokenizer_config.json")]
        asking += [str(file) for file in sorted(files) if file.is_file() and "auto_map" in read_object(file)]
    if asking:
        raise ValueError(
            f"Expected a backbone without its own Python code but {asking[0]} asks to run some (trust_remote_code, "
            "auto_map); such code is never run"
        )


def refuse_pickles(folder: Path) -> None:
    """Raise ValueError unless open_clip would load safetensors from the folder."""
    if not list(folder.glob("*.safetensors")):
        raise ValueError(
            f"Expected weights as safetensors in {folder} but there are none; pickled weights are not loaded, convert "
            "them with safetensors.torch.save_file"
        )
    if any((folder / name).is_file() for name in _FIRST_CHOICE):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ValueError(
            f"Expected only safetensors weights in {folder} but open_clip would choose {pickles[0]}, a pickle; "
            f"remove it, or rename the safetensors file to {_FIRST_CHOICE[0]}"
        )


def refuse_giants(name: str, folder: Path, model_config: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Raise ValueError if a configuration describes a model much larger than the weights in its folder.

    Without this check, a few characters of JSON could fill the memory before open_clip finds that the weights do not
    fit.

    Args:
        name: `local-dir:` name of the model.
        folder: its folder.
        model_config: open_clip's `model_cfg`.
        overrides: keyword arguments for `open_clip.create_model`.
    """
    import open_clip
    from safetensors import safe_open

    sizes = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
        sizes.append((sum(map(math.prod, shapes)), len(shapes)))
    most, tensors = max(sizes)
    layers = max(_numbers(model_config, "layers"), default=0)
    if layers <= tensors:
        with torch.device("meta"), _without("No pretrained weights loaded"):
            model = open_clip.create_model(name, load_weights=False, pretrained_text=False, device="meta", **overrides)
        count = sum(parameter.numel() for parameter in model.parameters())
        if count <= 2 * most + _SLACK:
            return
        found = f"{count} numbers"
    else:
        found = f"{layers} layers"
    raise ValueError(
        f"Expected open_clip_config.json in {folder} to fit its weights, {most} numbers in {tensors} tensors, but it "
        f"describes a model of {found}; fetch both again"
    )


def _numbers(value: Any, key: str) -> list[int]:
    """Every integer under a key, at any depth."""
    if not isinstance(value, dict):
        return []
    found = []
    for name, inner in value.items():
        parts = inner if isinstance(inner, list) else [inner]
        found += [part for part in parts if name == key and isinstance(part, int)] + _numbers(inner, key)
    return found


@contextlib.contextmanager
def _without(beginning: str) -> Iterator[None]:
    """Suppress log messages that start with `beginning`; the model is only built to count its parameters."""

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(beginning)

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
