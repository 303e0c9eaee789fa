"""The state of a process's random generators (torch, CUDA, NumPy, Python) as tensors, for checkpoints."""

import random

import numpy as np
import torch


def random_state() -> dict[str, torch.Tensor]:
    """The states of this process's generators: torch, numpy, python and, with a GPU, cuda (current device)."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    _, words, python_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*keys.tolist(), position], dtype=torch.int64),
        "python": torch.tensor(words, dtype=torch.int64),
        # NumPy and Python draw Gaussians in pairs. This is the second number if it has not been used yet; NaN: none.
        "waiting": torch.tensor(
            [gauss if has_gauss else float("nan"), float("nan") if python_gauss is None else python_gauss],
            dtype=torch.float64,
        ),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor]) -> None:
    """Restore the result of `random_state`."""
    numpy_gauss, python_gauss = state["waiting"].tolist()
    has_numpy, has_python = numpy_gauss == numpy_gauss, python_gauss == python_gauss
    *keys, position = state["numpy"].tolist()
    torch.set_rng_state(state["torch"].cpu())
    np.random.set_state(
        ("MT19937", np.array(keys, dtype=np.uint32), position, int(has_numpy), numpy_gauss if has_numpy else 0.0)
    )
    random.setstate((3, tuple(state["python"].tolist()), python_gauss if has_python else None))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
