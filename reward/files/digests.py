"""A digest of settings and weights. Two models with equal digests are equal bit for bit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def state_digest(settings: Any, state: Mapping[str, Tensor]) -> str:
    """SHA-256 of settings and of every bit of some weights, as 64 hexadecimal digits.

    Args:
        settings: JSON data; other values are converted with `str`.
        state: the tensors by name.

    Example:
        >>> state_digest({"seed": 0}, {}) == state_digest({"seed": 1}, {})
        False
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
