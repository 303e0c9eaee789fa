"""Where a score would notice a change of the pixels: its gradient, averaged over noisy copies (SmoothGrad)."""

import numpy as np
import torch
from torch import Tensor

from reward.hyperalign_reward import HyperAlignReward

_COPIES = 16
_NOISE = 0.1
# sixteen copies of a large picture would be a batch that no one asked for
_BATCH = 4


def saliency(reward: HyperAlignReward, image: Tensor, prompt: str) -> np.ndarray:
    """Mean |d score / d pixel| over 16 copies with Gaussian noise of 0.1, summed over the channels, then blurred.

    Smilkov et al. 2017 (arXiv:1706.03825), with the absolute value inside the mean. The blur (a fortieth of the longer
    side) is for the eye: a transformer's gradient has a pixel's grain. The same picture and prompt give the same map.

    Args:
        image: (3, H, W) in [0, 1].

    Returns:
        (H, W) float32, at least 0, its largest value 1 (all 0 where no pixel matters).
    """
    from scipy.ndimage import gaussian_filter

    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        noise = _NOISE * torch.randn(_COPIES, *image.shape, generator=generator)
        total = torch.zeros(image.shape[1:])
        for part in noise.split(_BATCH):
            pixels = (image.detach().cpu().float() + part).clamp(0, 1).requires_grad_()
            (gradient,) = torch.autograd.grad(reward(pixels, prompt).sum(), pixels)
            total += gradient.abs().sum((0, 1))
    blurred = gaussian_filter(total.numpy(), max(total.shape) / 40)
    return blurred / max(blurred.max(), np.finfo(blurred.dtype).tiny)
