"""Files, PIL images and numpy arrays -> tensors (3,H,W), float in [0,1] or uint8."""

import functools
import io
import os
from collections.abc import Collection, Mapping
from os import PathLike, fspath
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from reward.files.quoting import shortened

# Only decoders of images. PIL also opens documents, and passes PostScript to an interpreter.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# 8K (7680 x 4320) is the largest usual size. A hostile file of a hundred bytes can unpack to many more pixels.
MOST_PIXELS = 2**25
# A resize stores weights for every row and column of its input. This is also JPEG's own limit.
MOST_A_SIDE = 65535

_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0}
# pixels composited at once, so that they fit into the processor's cache
_BAND_PIXELS = 2**16


def read_image(image: Any, keep_bytes: bool = False) -> Tensor:
    """One path, encoded picture, PIL image or numpy array -> float (3,H,W).

    Transparency is composited on white, EXIF rotation is applied, 16-bit values are divided by 65535, and greyscale is
    repeated for the three channels.

    Args:
        image: a path; the bytes of a file, an open file, or a mapping with them as `datasets` gives it ({bytes, path});
            a PIL image; an array (H,W), (H,W,C) or, where that cannot be meant, (C,H,W).
        keep_bytes: an opaque 8-bit image stays uint8, its values 0..255: a quarter of the memory and fast to resize.

    Raises:
        TypeError: another type or dtype.
        ValueError: the file is unreadable or in none of `FORMATS`; the image is a decompression bomb (more pixels than
            `MOST_PIXELS` or `PIL.Image.MAX_IMAGE_PIXELS`, or more than `MOST_A_SIDE` on a side); or the array has a
            wrong rank or number of channels.

    Example:
        >>> read_image(np.full((4, 5), 255, dtype=np.uint8)).shape
        torch.Size([3, 4, 5])
    """
    if isinstance(image, Mapping):
        content, path = image.get("bytes"), image.get("path")
        if content is None and path is None:
            keys = shortened(", ".join(map(str, image))) or "none"
            raise ValueError(f"Expected a picture's mapping with bytes or path but got the keys {keys}")
        image = path if content is None else content
    if isinstance(image, (str, PathLike)):
        return _read_file(fspath(image), keep_bytes)
    if isinstance(image, Image.Image):
        return _from_pil(ImageOps.exif_transpose(image), keep_bytes)
    if isinstance(image, np.ndarray):
        return _from_numpy(image, keep_bytes)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _read(io.BytesIO(bytes(image)), "the given bytes", keep_bytes, FORMATS)
    if hasattr(image, "read"):
        name = str(getattr(image, "name", "") or "the open file")
        return _read(io.BytesIO(_content(image, name)), shortened(name), keep_bytes, FORMATS)
    raise TypeError(
        "Expected a tensor, PIL image, path, bytes, open file, numpy array or a list of these as images but got "
        f"{type(image).__module__}.{type(image).__qualname__}"
    )


def _content(file: Any, name: str) -> bytes:
    try:
        content = file.read()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected a readable image file but could not read {shortened(name)}: {shortened(error)}"
        ) from error
    if not isinstance(content, bytes):
        raise TypeError(f"Expected an open file in binary mode but {name} gives {type(content).__name__}; open it 'rb'")
    return content


def read_numpy_batch(images: np.ndarray, keep_bytes: bool = False) -> Tensor:
    """BHWC, or BCHW where BHWC cannot be meant -> float (B,3,H,W), or uint8 as in `read_image`."""
    if len(images) == 0:
        raise ValueError(f"Expected at least one image but got an empty batch of shape {images.shape}")
    return torch.stack([_from_numpy(image, keep_bytes) for image in images])


def read_encoded(data: bytes, formats: Collection[str] = FORMATS, keep_bytes: bool = False) -> Tensor:
    """The bytes of an image file -> float (3,H,W); as `read_image` reads the file.

    Args:
        formats: those of `FORMATS` to try.
        keep_bytes: as in `read_image`.

    Raises:
        ValueError: as `read_image`.
    """
    return _read(io.BytesIO(data), "the bytes", keep_bytes, formats)


def picture_size(data: bytes, formats: Collection[str] = FORMATS) -> tuple[int, int]:
    """(width, height) that the header of an image file states; nothing is unpacked.

    Raises:
        ValueError: an unreadable header, a decompression bomb.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_formats(formats)) as image:
            return image.size
    except Image.DecompressionBombError:
        raise ValueError(_bomb("the bytes")) from None
    except Exception as error:
        raise ValueError(f"Expected a readable image file but could not read the bytes: {shortened(error)}") from error


def _read_file(path: str, keep_bytes: bool) -> Tensor:
    if not os.path.lexists(path):
        raise ValueError(f"Expected an image file but there is none at {shortened(path)}")
    return _read(path, shortened(path), keep_bytes, FORMATS)


def _read(source: str | BinaryIO, name: str, keep_bytes: bool, formats: Collection[str]) -> Tensor:
    try:
        with Image.open(source, formats=_formats(formats)) as image:
            if not _is_bomb(image):
                image.load()
                # the true size of some formats is only known after loading
                if not _is_bomb(image):
                    ImageOps.exif_transpose(image, in_place=True)
                    return _from_pil(image, keep_bytes)
    except Image.DecompressionBombError:
        pass
    # for damaged files PIL raises almost anything: OSError, SyntaxError, struct.error, KeyError, ...
    except Exception as error:
        raise ValueError(f"Expected a readable image file but could not read {name}: {shortened(error)}") from error
    raise ValueError(_bomb(name))


def _bomb(name: str) -> str:
    return (
        f"Expected an image of at most {_most_pixels()} pixels, {MOST_A_SIDE} on a side, but {name} is larger (a "
        "possible decompression bomb); shrink it, or raise reward.images.reading.MOST_PIXELS if you trust it"
    )


@functools.cache
def _formats(among: Collection[str]) -> tuple[str, ...]:
    """Those that this build of PIL can read."""
    Image.init()
    return tuple(name for name in among if name in Image.OPEN)


def _is_bomb(image: Image.Image) -> bool:
    return max(image.size) > MOST_A_SIDE or image.width * image.height > _most_pixels()


def _most_pixels() -> int:
    # PIL only warns about images up to twice its own limit
    return min(MOST_PIXELS, Image.MAX_IMAGE_PIXELS or MOST_PIXELS)


def _from_pil(image: Image.Image, keep_bytes: bool) -> Tensor:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_numpy(_wide_array(image), keep_bytes)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _composited(image)
    return _from_numpy(np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")), keep_bytes)


def _composited(image: Image.Image) -> Tensor:
    """A transparent image on white, float (3,H,W). Done in bands, because the whole would need six float copies."""
    pixels = np.asarray(image.convert("RGBA"))
    whole = torch.from_numpy(np.empty((3, image.height, image.width), dtype=np.float32))
    rows = max(1, _BAND_PIXELS // max(1, image.width))
    for top in range(0, image.height, rows):
        whole[:, top : top + rows] = _from_numpy(pixels[top : top + rows], keep_bytes=False)
    return whole


def _wide_array(image: Image.Image) -> np.ndarray:
    """The pixels of a 16-bit, 32-bit or float greyscale image."""
    array = np.asarray(image)
    if image.mode == "F":
        return array
    # PIL opens some 16-bit files in 32-bit mode "I"
    if array.size and (array.min() < 0 or array.max() > 65535):
        raise ValueError(
            f"Expected 16-bit values 0..65535 in a mode {image.mode} image but got {array.min()}..{array.max()}; "
            "scale it to 16 bits first"
        )
    return array.astype(np.uint16)


def _from_numpy(array: np.ndarray, keep_bytes: bool) -> Tensor:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            "Expected a numpy image of shape (H,W), (H,W,C) or (C,H,W) with 1, 3 or 4 channels C but got "
            f"{array.shape}"
        )
    if keep_bytes and array.dtype == np.uint8 and array.shape[-1] != 4:
        return torch.from_numpy(np.array(array)).permute(2, 0, 1).expand(3, -1, -1)
    if array.dtype.name in _FULL_SCALE:
        # written channels first, which saves one copy of a large image
        planes = np.empty((array.shape[-1], *array.shape[:2]), dtype=np.float32)
        for plane, values in zip(planes, array.transpose(2, 0, 1), strict=True):
            np.divide(values, _FULL_SCALE[array.dtype.name], out=plane, dtype=np.float32)
        pixels = torch.from_numpy(planes).permute(1, 2, 0)
    elif np.issubdtype(array.dtype, np.floating):
        wide = np.float64 if array.dtype == np.float64 else np.float32
        pixels = torch.from_numpy(np.array(array, dtype=wide))
    else:
        raise TypeError(
            f"Expected a numpy image of dtype uint8, uint16 or float (in [0, 1]) but got {array.dtype}; convert with "
            "array.astype(np.uint8) if it holds 0..255"
        )
    pixels = pixels.permute(2, 0, 1)
    if pixels.shape[0] == 4:
        colour, alpha = pixels[:3], pixels[3:]
        return colour * alpha + (1 - alpha)
    return pixels.expand(3, -1, -1).contiguous()
