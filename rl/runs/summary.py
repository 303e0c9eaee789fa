"""summary.json of a run."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reward.files.writing import write_text


def write_summary(run_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Write summary.json of a run; returns its path. NaN and infinity become null, because JSON has no such numbers."""
    text = json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n"
    return write_text(Path(run_dir) / "summary.json", text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
