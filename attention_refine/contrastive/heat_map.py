"""Draw a map of image tokens over the picture."""

import numpy as np
from PIL import Image
from torch import Tensor

# From cold to hot, in equal steps: dark blue, blue, green, yellow, red.
_COLOURS = np.array([[0, 0, 96], [0, 80, 255], [0, 200, 120], [255, 220, 0], [255, 0, 0]], dtype=np.float64)


def heat_map(picture: Image.Image, values: Tensor, center_crop: bool = False, opacity: float = 0.5) -> Image.Image:
    """Draw a map over a picture, coloured from its lowest value (dark blue) to its highest (red).

    Args:
        picture: the picture that was given to the processor.
        values: (rows, columns), e.g. `record.ia_maps[0][-1]`; bool or numbers.
        center_crop: True if the processor crops the largest centred square, as LLaVA-1.5's does. The map then covers
            this square, and the rest of the picture is unchanged.
        opacity: opacity of the colours, in [0, 1].

    Returns:
        an RGB picture of the same size.

    Raises:
        ValueError: `values` is not a (rows, columns) map, or `opacity` is out of range.

    Example:
        >>> heat_map(Image.new("RGB", (64, 48)), Tensor([[0, 1], [1, 0]])).size
        (64, 48)
    """
    if values.dim() != 2 or not values.numel():
        raise ValueError(f"Expected a (rows, columns) map, got shape {tuple(values.shape)}. Use one of `ia_maps[0]`.")
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected opacity in [0, 1], got {opacity}.")
    picture = picture.convert("RGB")
    width, height = picture.size
    left, top, wide, high = 0, 0, width, height
    if center_crop:
        wide = high = min(width, height)
        left, top = (width - wide) // 2, (height - high) // 2
    numbers = values.detach().cpu().double().numpy()
    spread = numbers.max() - numbers.min()
    level = (numbers - numbers.min()) / spread if spread else np.zeros_like(numbers)
    small = Image.fromarray((level * 255).round().astype(np.uint8))
    level = np.asarray(small.resize((wide, high), Image.Resampling.NEAREST), dtype=np.float64) / 255
    place = level * (len(_COLOURS) - 1)
    below = np.minimum(place.astype(int), len(_COLOURS) - 2)
    share = (place - below)[..., None]
    colours = _COLOURS[below] * (1 - share) + _COLOURS[below + 1] * share
    pixels = np.array(picture, dtype=np.float64)
    region = np.s_[top : top + high, left : left + wide]
    pixels[region] = pixels[region] * (1 - opacity) + colours * opacity
    return Image.fromarray(pixels.round().astype(np.uint8))
