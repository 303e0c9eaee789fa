"""Rewards without a model: how well a picture compresses as JPEG. The usual first test of a DDPO run.

Black et al., "Training Diffusion Models with Reinforcement Learning" (arXiv:2305.13301), section 5.1.
"""

import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

QUALITY = 95


def jpeg_incompressibility(
    images: torch.Tensor, prompts: Sequence[str], metadata: Any
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Size of each picture as JPEG of quality 95, in kilobytes (1000 bytes). Rewards detail and noise.

    Args:
        images: (B,3,H,W) in [0,1]; other values are clamped.
        prompts, metadata: ignored.

    Returns:
        (B,) float32 >= 0, and {}.

    Example:
        >>> jpeg_incompressibility(torch.rand(2, 3, 64, 64), ["", ""], ())[0].shape
        torch.Size([2])
    """
    pixels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return torch.tensor([_jpeg_bytes(picture) / 1000 for picture in pixels], dtype=torch.float32), {}


def jpeg_compressibility(
    images: torch.Tensor, prompts: Sequence[str], metadata: Any
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Minus `jpeg_incompressibility`, (B,) float32 <= 0. Rewards smooth, simple pictures."""
    sizes, info = jpeg_incompressibility(images, prompts, metadata)
    return -sizes, info


def _jpeg_bytes(pixels: Any) -> int:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=QUALITY)
    return buffer.tell()
