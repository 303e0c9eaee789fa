"""A clamp to [0,1] that passes gradients on: a saturated pixel can still be told to come back."""

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
    """min(max(x, 0), 1) forward, the identity backward (Bengio et al., arXiv:1308.3432, section 4).

    The plain clamp has gradient 0 where a decoder overshoots, as it does in every white background: the reward then
    says nothing about those pixels, which are where a picture is often wrong.

    Example:
        >>> pixel = torch.tensor([1.2], requires_grad=True)
        >>> clamp_straight_through(pixel).backward()
        >>> pixel.grad
        tensor([1.])
    """
    return _Clamp.apply(values)
