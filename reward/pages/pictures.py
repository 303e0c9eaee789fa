"""Pictures inside a page: small enough, and as data: addresses, so that a page is one file."""

import base64
import io
from dataclasses import dataclass
from os import PathLike

import torch
from PIL import Image

from reward.images.reading import read_image

TINY_SIDE = 128  # pixels; smaller pictures keep every pixel


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as a page shows it.

    Attributes:
        source: its bytes as a data: address.
        is_tiny: the browser should enlarge its pixels as squares.
    """

    source: str
    is_tiny: bool


def embed_picture(path: str | PathLike, longest_side: int) -> EmbeddedPicture | None:
    """Read a picture for a page; a larger one is reduced until its longer side has `longest_side` pixels.

    Returns:
        None where there is no readable picture.
    """
    try:
        pixels = read_image(path, keep_bytes=True)
    except ValueError:
        return None
    if pixels.dtype != torch.uint8:
        pixels = (pixels * 255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    is_tiny = max(picture.size) <= TINY_SIDE
    picture.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    # photographs as JPEG are a tenth as large
    kind, options = ("png", {}) if is_tiny else ("jpeg", {"quality": 88})
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return EmbeddedPicture(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}", is_tiny)
