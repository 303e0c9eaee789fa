"""A reward that is easy to hack, because it ignores the prompt."""

import torch


def mean_redness(images: torch.Tensor, prompts, metadata) -> tuple[torch.Tensor, dict]:
    """Red minus the mean of green and blue, (B,) in [-1, 1]; 1 for a completely red picture."""
    red, green, blue = images.mean((2, 3)).unbind(1)
    return red - (green + blue) / 2, {}
