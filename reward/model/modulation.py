"""M(Z) -> alpha, beta, gamma: the geometry of a pair modulates its cosine."""

import math

import torch
from torch import Tensor, nn

MAX_GAIN = 5.0
MAX_SHIFT = 2.0


class Modulation(nn.Module):
    """alpha = 5^tanh(a), beta = 2 tanh(b), gamma = 5^tanh(g), with (a, b, g) = MLP(Z). Starts at exactly (1, 0, 1).

    alpha and gamma are in (1/5, 5), and beta is in (-2, 2). These bounds still allow gamma*alpha = 10 and
    |gamma*beta| = 3. Only gamma*alpha and gamma*beta are identifiable, because the score is
    gamma*alpha*s + gamma*beta. The paper does not specify the MLP or the bounds; they are our choice.

    Args:
        inputs: width of Z; with 0, alpha, beta and gamma are three learned constants.
        hidden: width of the hidden layer.
    """

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden) if inputs else None
        # zero-initialised, so that the score of an untrained head is the backbone's cosine
        self.weight = nn.Parameter(torch.zeros(3, hidden)) if inputs else None
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Z (..., inputs) -> alpha, beta, gamma, each (...)."""
        if self.hidden is None:
            raw = self.bias.expand(*z.shape[:-1], 3)
        else:
            raw = nn.functional.linear(nn.functional.silu(self.hidden(z)), self.weight, self.bias)
        a, b, g = raw.tanh().unbind(-1)
        return (math.log(MAX_GAIN) * a).exp(), MAX_SHIFT * b, (math.log(MAX_GAIN) * g).exp()
