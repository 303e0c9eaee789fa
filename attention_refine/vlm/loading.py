"""Load a vision-language model and its processor from a folder or the hub."""

from typing import Any

import torch


def load_model(source: str, device: Any = None, dtype: Any = None) -> tuple[Any, Any]:
    """Load (model, processor) with transformers' default attention (SDPA). Only safetensors weights are loaded.

    Args:
        source: folder or hub id.
        device: None uses a GPU if there is one.
        dtype: None uses float32 on a CPU, and the dtype of the saved weights on other devices.

    Raises:
        OSError: there is no such folder or id, or it has no safetensors weights.

    Example:
        >>> model, processor = load_model("llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else "auto"
    model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, use_safetensors=True)
    return model.to(device), AutoProcessor.from_pretrained(source)
