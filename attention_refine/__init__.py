"""Contrastive attention for LLaVA and its like: vision tokens whose attention does not change are scaled down.

Names are imported on first use (PEP 562), so `import attention_refine` pulls in neither torch nor transformers.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attention_refine.caption_check.check import CaptionCheck, PictureCheck
    from attention_refine.contrastive.capture import AttentionCapture
    from attention_refine.contrastive.config import ContrastiveAttentionConfig
    from attention_refine.contrastive.generation import generate
    from attention_refine.contrastive.wrapper import ContrastiveAttention, ContrastRecord

_HOME = {
    "AttentionCapture": "attention_refine.contrastive.capture",
    "CaptionCheck": "attention_refine.caption_check.check",
    "ContrastRecord": "attention_refine.contrastive.wrapper",
    "ContrastiveAttention": "attention_refine.contrastive.wrapper",
    "ContrastiveAttentionConfig": "attention_refine.contrastive.config",
    "PictureCheck": "attention_refine.caption_check.check",
    "generate": "attention_refine.contrastive.generation",
}

__all__ = [
    "AttentionCapture",
    "CaptionCheck",
    "ContrastRecord",
    "ContrastiveAttention",
    "ContrastiveAttentionConfig",
    "PictureCheck",
    "generate",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'attention_refine' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
