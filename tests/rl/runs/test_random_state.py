import random

import numpy as np
import torch

from rl.runs.random_state import random_state, restore_random_state


def draw():
    return [*torch.randn(3).tolist(), *np.random.randn(3).tolist(), *(random.gauss(0, 1) for _ in range(3))]


def test_every_generator_goes_on_where_it_was():
    for drawn_before in range(2):
        # After an odd number of Gaussians NumPy and Python each keep one waiting.
        np.random.randn(1 - drawn_before)
        _ = [random.gauss(0, 1) for _ in range(1 - drawn_before)]
        state = {name: part.clone() for name, part in random_state().items()}
        expected = draw()
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        restore_random_state(state)
        assert draw() == expected


def test_is_tensors_only():
    assert all(isinstance(part, torch.Tensor) and part.dtype in (torch.uint8, torch.int64, torch.float64)
               for part in random_state().values())
