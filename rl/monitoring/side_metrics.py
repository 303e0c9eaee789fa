"""Side metrics: simple measures of pictures that a hacked reward often ruins. All are pure functions without a model.

Pictures are float tensors (B,3,H,W) in [0,1]. Half precision is converted to float32; float64 stays.
"""

from itertools import combinations

import torch
import torch.nn.functional as F

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601: weights for gamma-encoded values, as in ordinary pictures
_SSIM_WINDOW, _SSIM_C1, _SSIM_C2 = 7, 0.01**2, 0.03**2


def colour_entropy(images: torch.Tensor, levels: int = 4) -> torch.Tensor:
    """Entropy of a picture's colours: H = -sum_c p_c log2 p_c over the joint histogram of its pixels.

    Each channel is cut into `levels` equal steps, so c runs over levels^3 colours.

    Args:
        images: (B,3,H,W).
        levels: steps per channel.

    Returns:
        (B,) bits in [0, 3 log2(levels)]: 0 for one colour, 6 at most with 4 levels.

    Raises:
        ValueError: not (B,3,H,W) floating point.

    Example:
        >>> colour_entropy(torch.full((1, 3, 8, 8), 0.3))
        tensor([0.])
    """
    images = _checked(images)
    steps = (images * levels).long().clamp(0, levels - 1)
    colours = ((steps[:, 0] * levels + steps[:, 1]) * levels + steps[:, 2]).flatten(1)
    counts = images.new_zeros(len(images), levels**3)
    counts.scatter_add_(1, colours, torch.ones_like(colours, dtype=images.dtype))
    return torch.special.entr(counts / colours.shape[1]).sum(1) / torch.log(images.new_tensor(2.0))


def edge_density(images: torch.Tensor, threshold: float = 0.1) -> torch.Tensor:
    """Share of pixels at an edge, where the luma Y = 0.299 R + 0.587 G + 0.114 B has a large gradient.

    The gradient is Sobel's, |(G_x, G_y)| / 8, in luma per pixel. Border pixels are left out.

    Args:
        images: (B,3,H,W) with H, W >= 3.
        threshold: a pixel counts if its gradient is larger.

    Returns:
        (B,) in [0, 1]: 0 for one colour.

    Raises:
        ValueError: not (B,3,H,W) floating point.

    Example:
        >>> picture = torch.zeros(1, 3, 10, 10)
        >>> picture[..., 5:] = 1.0  # the two columns beside the step, of the eight inner ones
        >>> edge_density(picture)
        tensor([0.2500])
    """
    images = _checked(images)
    luma = (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    slopes = F.conv2d(luma, torch.stack([across, across.T])[:, None])
    return (slopes.square().sum(1).sqrt() > threshold).to(images.dtype).mean((1, 2))


def saturation(images: torch.Tensor) -> torch.Tensor:
    """Mean of HSV's saturation: (max - min) / max over a pixel's channels, 0 for black.

    Args:
        images: (B,3,H,W).

    Returns:
        (B,) in [0, 1]: 0 for greys, 1 for pure colours of any brightness.

    Raises:
        ValueError: not (B,3,H,W) floating point.

    Example:
        >>> saturation(torch.tensor([0.5, 0.25, 0.25]).view(1, 3, 1, 1).expand(1, 3, 4, 4))
        tensor([0.5000])
    """
    images = _checked(images)
    high, low = images.amax(1), images.amin(1)
    return torch.where(high > 0, (high - low) / high.clamp(min=1e-12), torch.zeros_like(high)).mean((1, 2))


def similarity(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Structural similarity (SSIM) of each picture and its counterpart, mean over the three channels.

    Wang et al. 2004 as scikit-image computes it: 7 x 7 box windows inside the picture, sample covariance,
    K1 = 0.01, K2 = 0.03. It is computed per channel and not on the luma, so a change of colours alone counts too.

    Args:
        images: (B,3,H,W).
        others: (B,3,H,W).

    Returns:
        (B,) in [-1, 1]: 1 for equal pictures, about 0 for unrelated ones.

    Raises:
        ValueError: not (B,3,H,W) floating point, or different shapes.

    Example:
        >>> picture = torch.rand(1, 3, 16, 16)
        >>> similarity(picture, picture)
        tensor([1.])
    """
    images, others = _checked(images), _checked(others)
    if images.shape != others.shape:
        raise ValueError(f"Expected equal shapes, got {tuple(images.shape)} and {tuple(others.shape)}.")
    # Subtract the mean colour first. Otherwise rounding errors of the moments are as large as C2 for flat pictures.
    centre = images.mean((2, 3), keepdim=True)
    a, b = images - centre, others - centre
    window = min(_SSIM_WINDOW, *images.shape[2:])
    count = window * window
    sample = count / max(count - 1, 1)

    def box(values: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(values, window, stride=1)

    mean_a, mean_b = box(a), box(b)
    spread = sample * (box(a * a) - mean_a**2 + box(b * b) - mean_b**2)
    together = sample * (box(a * b) - mean_a * mean_b)
    mean_a, mean_b = mean_a + centre, mean_b + centre
    light = (2 * mean_a * mean_b + _SSIM_C1) / (mean_a**2 + mean_b**2 + _SSIM_C1)
    return (light * (2 * together + _SSIM_C2) / (spread + _SSIM_C2)).mean((1, 2, 3))


def diversity(groups: torch.Tensor) -> torch.Tensor:
    """How much the pictures of one prompt differ: mean over all pairs of the root mean square pixel difference.

    Args:
        groups: (B,G,3,H,W), G >= 2 pictures of each of B prompts.

    Returns:
        (B,) in [0, 1]: 0 if all pictures are equal.

    Raises:
        ValueError: wrong shape, or G < 2.

    Example:
        >>> diversity(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])[None])
        tensor([1.])
    """
    if groups.ndim != 5 or groups.shape[1] < 2:
        raise ValueError(f"Expected groups of shape (B, G, 3, H, W) with G >= 2, got {tuple(groups.shape)}.")
    pictures = [_checked(groups[:, place]) for place in range(groups.shape[1])]
    pairs = [(one - other).square().mean((1, 2, 3)).sqrt() for one, other in combinations(pictures, 2)]
    return torch.stack(pairs).mean(0)


def reduced(images: torch.Tensor, side: int = 64) -> torch.Tensor:
    """Shrink pictures by averaging until their longer side is at most `side`; smaller ones stay as they are.

    Reduced pictures are cheap to keep, and comparing them measures composition and colour but not fine grain.

    Example:
        >>> reduced(torch.rand(2, 3, 512, 256)).shape
        torch.Size([2, 3, 64, 32])
    """
    images = _checked(images)
    height, width = images.shape[2:]
    factor = side / max(height, width)
    if factor >= 1:
        return images
    return F.interpolate(images, (max(1, round(height * factor)), max(1, round(width * factor))), mode="area")


def _checked(images: torch.Tensor) -> torch.Tensor:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"Expected floating-point images of shape (B, 3, H, W), got {tuple(images.shape)} of {images.dtype}."
        )
    return images if images.dtype == torch.float64 else images.float()
