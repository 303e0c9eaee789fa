"""A vision-language model and its processor from a folder or the hub."""

from typing import Any

import torch


def load_model(source: str, device: Any = None, dtype: Any = None) -> tuple[Any, Any]:
    """(model, processor) of a folder or hub id, with the attention that transformers prefers (SDPA); safetensors only.

    Args:
        source: folder or hub id.
        device: None: a GPU where there is one.
        dtype: None: float32 on a CPU, elsewhere as the weights were saved.

    Raises:
        OSError: no such folder or id, or no safetensors in it.

    Example:
        >>> model, processor = load_model("llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else "auto"
    model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, use_safetensors=True)
    return model.to(device), AutoProcessor.from_pretrained(source)
