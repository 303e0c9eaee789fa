"""A clamp to [0,1] with a straight-through gradient, so that saturated pixels still get a gradient."""

from typing import Any

import torch


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clamp(0, 1)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def clamp_straight_through(values: torch.Tensor) -> torch.Tensor:
    """min(max(x, 0), 1) in the forward pass, identity in the backward pass (Bengio et al., arXiv:1308.3432, section 4).

    The plain clamp has gradient 0 where the decoder's output leaves [0,1], for example in every white background. The
    reward would then have no gradient for those pixels.

    Example:
        >>> pixel = torch.tensor([1.2], requires_grad=True)
        >>> clamp_straight_through(pixel).backward()
        >>> pixel.grad
        tensor([1.])
    """
    return _Clamp.apply(values)
