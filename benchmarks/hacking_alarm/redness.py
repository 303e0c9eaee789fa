"""A reward that asks to be hacked: it does not read the prompt."""

import torch


def mean_redness(images: torch.Tensor, prompts, metadata) -> tuple[torch.Tensor, dict]:
    """Red minus the mean of green and blue, in [-1, 1]: 1 for a picture that is red all over."""
    red, green, blue = images.mean((2, 3)).unbind(1)
    return red - (green + blue) / 2, {}
