"""Any image input -> tensor (B,3,H,W), float in [0,1] or uint8 -> model input; differentiable for float tensors.

`reward.images.reading` turns files, PIL images and arrays into tensors. This file checks tensors, then resizes, crops
and normalises them as open_clip's PIL transform does, but with gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from reward.images.reading import read_image, read_numpy_batch

# bicubic resizing and half precision may leave [0, 1] by a rounding error; a larger overshoot means another scale
RANGE_TOLERANCE = 1e-3

_RESIZE_MODES = ("shortest", "longest", "squash")
_INTERPOLATIONS = ("bicubic", "bilinear")
# resizing the shorter side of a 1 x 65,000 image to 224 would give 224 x 15 million pixels
_MOST_ELONGATED = 16


def to_tensors(images: Any, keep_bytes: bool = False) -> Tensor | list[Tensor]:
    """Turn any supported image input into one float tensor (B,3,H,W), or a list of (3,H,W) if the sizes differ.

    Args:
        images: float tensor (B,3,H,W) or (3,H,W) in [0,1] (an overshoot of 1e-3 is tolerated), uint8 tensor, PIL
            image, path, bytes of a file, open file, `datasets`' {bytes, path}, numpy array HW, HWC or BHWC (uint8,
            uint16 or float; CHW or BCHW where that alone can be meant), or a list of single images. RGBA and palette
            transparency are composited on white, EXIF rotation is applied, 16-bit is scaled by 65535.
        keep_bytes: opaque 8-bit images stay uint8, which `ImageTransform` takes too: less to hold, faster to resize.

    Raises:
        TypeError: another type or dtype.
        ValueError: wrong rank or number of channels, an empty batch, values outside [0,1], NaN or Inf, or an
            unreadable file.

    Example:
        >>> to_tensors(torch.zeros(3, 8, 6)).shape
        torch.Size([1, 3, 8, 6])
    """
    if isinstance(images, Tensor):
        return _checked(_batch(images, keep_bytes))
    if hasattr(images, "__array_interface__") and getattr(images, "ndim", 0) == 4:
        return _checked(read_numpy_batch(images, keep_bytes))
    if isinstance(images, Sequence) and not isinstance(images, (str, bytes, bytearray, memoryview)):
        if len(images) == 0:
            raise ValueError("Expected at least one image but got an empty list")
        singles = [_single(image, keep_bytes, i) for i, image in enumerate(images)]
        if len({s.dtype == torch.uint8 for s in singles}) > 1:
            singles = [_as_float(s) for s in singles]
        if all(s.shape == singles[0].shape for s in singles):
            return torch.stack([s.to(singles[0].device) for s in singles])
        return singles
    return _single(images, keep_bytes).unsqueeze(0)


def _single(image: Any, keep_bytes: bool, index: int | None = None) -> Tensor:
    where = "" if index is None else f" (image {index} of the list)"
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise ValueError(
                f"Expected each tensor of a list to be one image (3,H,W) but got shape {tuple(image.shape)}{where}"
            )
        return _checked(_batch(image, keep_bytes), where)[0]
    if isinstance(image, (list, tuple)):
        raise TypeError(f"Expected a flat list of images but got a {type(image).__name__} inside it{where}")
    pixels = read_image(image, keep_bytes).unsqueeze(0)
    return _checked(pixels, where or (f" ({image})" if _is_path(image) else ""))[0]


def _is_path(image: Any) -> bool:
    return isinstance(image, (str, PathLike))


def _batch(images: Tensor, keep_bytes: bool) -> Tensor:
    """Tensor (B,3,H,W) or (3,H,W) -> float (B,3,H,W), at least float32; with keep_bytes, uint8 stays uint8."""
    if images.ndim not in (3, 4):
        raise ValueError(f"Expected images of shape (B,3,H,W) or (3,H,W) but got {tuple(images.shape)}")
    if images.ndim == 3:
        images = images.unsqueeze(0)
    if images.shape[1] != 3:
        hint = ""
        if images.shape[-1] == 3:
            hint = "; this looks channels-last: use images.permute(0, 3, 1, 2)"
        elif images.shape[1] in (1, 4):
            hint = "; pass greyscale or RGBA images as PIL images or numpy arrays, or convert them to RGB first"
        raise ValueError(f"Expected 3 channels in images (B,3,H,W) but got shape {tuple(images.shape)}{hint}")
    if images.dtype == torch.uint8:
        return images if keep_bytes else _as_float(images)
    if not images.is_floating_point():
        raise TypeError(
            f"Expected a float tensor in [0, 1] or a uint8 tensor but got {images.dtype}; convert with images.to("
            "torch.uint8) if it holds 0..255"
        )
    return images.to(torch.promote_types(images.dtype, torch.float32))


def _as_float(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _checked(images: Tensor, where: str = "") -> Tensor:
    if images.shape[0] == 0:
        raise ValueError(f"Expected at least one image but got an empty batch of shape {tuple(images.shape)}")
    if images.numel() == 0:
        raise ValueError(f"Expected images of at least 1x1 pixel but got shape {tuple(images.shape)}{where}")
    if images.dtype == torch.uint8:
        return images
    with torch.no_grad():
        low, high = images.aminmax()
        # aminmax passes NaN on; testing every pixel would cost more than the resize
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = torch.isfinite(images).flatten(1).all(1)
            rows = (~finite).nonzero().flatten().tolist()
            at = where or f" in images {rows} of the batch"
            raise ValueError(
                f"Expected finite pixels but got NaN or Inf{at}; check what made these images (a VAE in float16 may "
                "overflow: decode in float32)"
            )
        if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
            raise ValueError(
                f"Expected pixel values in [0, 1] (tolerance {RANGE_TOLERANCE}) but got [{low:.4g}, {high:.4g}]{where};"
                " for [-1, 1] pass images / 2 + 0.5, for 0..255 pass a uint8 tensor or divide by 255"
            )
    return images


@dataclass(frozen=True)
class ImageTransform:
    """open_clip's evaluation transform on tensors: antialiased resize, centre crop or pad, normalise.

    Model inputs of float images differ from those of open_clip's PIL transform by less than 0.02 (mean absolute
    difference), because PIL rounds to 8 bits in between. uint8 images on a CPU are resized as by PIL, with at most a
    few values rounded differently.

    Args:
        size: (height, width) of the model input.
        mean, std: per channel.
        interpolation: bicubic or bilinear.
        resize_mode: shortest (resize the shorter side, then crop), longest (resize the longer side, then pad) or
            squash (resize both sides).
        fill_color: grey value of the padding, 0..255.

    Raises:
        ValueError: `interpolation` or `resize_mode` is unknown.

    Example:
        >>> transform = ImageTransform(size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> transform(torch.rand(2, 3, 300, 400)).shape
        torch.Size([2, 3, 224, 224])
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    def __post_init__(self):
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(f"Expected interpolation to be one of {_INTERPOLATIONS} but got {self.interpolation!r}")
        if self.resize_mode not in _RESIZE_MODES:
            raise ValueError(f"Expected resize_mode to be one of {_RESIZE_MODES} but got {self.resize_mode!r}")

    @classmethod
    def from_open_clip(cls, config: dict[str, Any]) -> "ImageTransform":
        """The transform of an open_clip model, from its `model.visual.preprocess_cfg`."""
        size = config["size"]
        interpolation = config.get("interpolation", "bicubic")
        return cls(
            size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[1])),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            # "random" is only for training: open_clip evaluates these models with bicubic
            interpolation="bicubic" if interpolation == "random" else interpolation,
            resize_mode=config.get("resize_mode") or "shortest",
            fill_color=config.get("fill_color", 0),
        )

    def __call__(self, images: Tensor | list[Tensor]) -> Tensor:
        """Images (B,3,H,W) in [0,1] or uint8, or a list of (3,H,W) -> model input (B,3,*size), normalised."""
        if isinstance(images, list):
            return torch.cat([self(image.unsqueeze(0)) for image in images])
        images = self.fit(images)
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def fit(self, images: Tensor) -> Tensor:
        """Images (B,3,H,W) in [0,1] or uint8 -> (B,3,*size) in [0,1], resized and cropped, not normalised."""
        if self.resize_mode == "shortest":
            images = _middle(images)
        height, width = self._resized(*images.shape[-2:])
        if images.device.type != "cpu":
            images = _as_float(images)  # torch resizes uint8 only on a CPU
        if (height, width) != tuple(images.shape[-2:]):
            # for a rectangular input, open_clip's "shortest" resize is always bicubic, whatever the configuration says
            rectangle = self.resize_mode == "shortest" and self.size[0] != self.size[1]
            mode = "bicubic" if rectangle else self.interpolation
            images = interpolate(images, size=(height, width), mode=mode, antialias=True, align_corners=False)
            if images.is_floating_point():
                images = images.clamp(0, 1)  # bicubic overshoots; torch already clips uint8
        return self._cropped(_as_float(images))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after the resize, rounded as in open_clip and torchvision."""
        if self.resize_mode == "squash":
            return self.size
        if self.resize_mode == "shortest" and self.size[0] == self.size[1]:
            short, long = sorted((height, width))
            new_long = int(self.size[0] * long / short)
            return (self.size[0], new_long) if height <= width else (new_long, self.size[0])
        choose = max if self.resize_mode == "longest" else min
        ratio = choose(height / self.size[0], width / self.size[1])
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _cropped(self, images: Tensor) -> Tensor:
        height, width = self.size
        extra_h, extra_w = max(0, height - images.shape[-2]), max(0, width - images.shape[-1])
        if extra_h or extra_w:
            sides = (extra_w // 2, (extra_w + 1) // 2, extra_h // 2, (extra_h + 1) // 2)
            images = pad(images, sides, value=self.fill_color / 255)
        top, left = round((images.shape[-2] - height) / 2), round((images.shape[-1] - width) / 2)
        return images[..., top : top + height, left : left + width]


def _middle(images: Tensor) -> Tensor:
    """Cut very elongated images to their middle, which still contains the later centre crop.

    This moves the crop by less than one pixel of the model input.
    """
    height, width = images.shape[-2:]
    rows, columns = min(height, _MOST_ELONGATED * width), min(width, _MOST_ELONGATED * height)
    top, left = (height - rows) // 2, (width - columns) // 2
    return images[..., top : top + rows, left : left + columns]
