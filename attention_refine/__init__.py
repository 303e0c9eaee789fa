"""LLaVA as a second pair of eyes: does a picture show what its prompt says?

Names are imported on first use (PEP 562): `import attention_refine` pulls in neither torch nor transformers.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attention_refine.caption_check import CaptionCheck, PictureCheck

_HOME = {
    "CaptionCheck": "attention_refine.caption_check",
    "PictureCheck": "attention_refine.caption_check",
}

__all__ = ["CaptionCheck", "PictureCheck"]


def __getattr__(name: str):
    if name not in _HOME:
        known = ", ".join(__all__)
        raise AttributeError(f"module 'attention_refine' has no attribute {name!r}; public names are {known}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
