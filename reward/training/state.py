"""Save and read the state of a fit after an epoch: weights, optimiser, best weights, random state."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from reward.files.digests import state_digest
from reward.files.quoting import quoted
from reward.files.writing import write_whole


def write_state(path: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Write tensors and JSON values to one safetensors file, whole or not at all."""
    # clones, because safetensors refuses tensors that share memory, as tied weights do
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(values)
    metadata = {"values": text, "digest": state_digest(text, plain)}
    write_whole(path, lambda temporary: save_file(plain, temporary, metadata=metadata))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and values that `write_state` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        # states of version 0.1.0 have no digest
        if "digest" in metadata and state_digest(metadata["values"], tensors) != metadata["digest"]:
            raise KeyError("the contents have changed since they were written")
        return tensors, json.loads(metadata["values"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected the state of a training run at {path} but could not read it: {error}; delete it to start over"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, named by the parameter's index."""
    state = optimizer.state_dict()["state"]
    return {f"{place}.{name}": value for place, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the tensors of `optimizer_tensors` into an optimiser. Its parameter groups stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        place, _, key = name.partition(".")
        state.setdefault(int(place), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def refuse_other_run(kept: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Raise ValueError if the settings of a saved run and of this run differ; the message names the differences."""
    differing = [
        f"{name} (was {quoted(kept.get(name))}, is {quoted(now.get(name))})"
        for name in sorted(kept.keys() | now.keys())
        if kept.get(name) != now.get(name)
    ]
    if differing:
        raise ValueError(
            f"Expected the settings and data of the run whose state is {path}, but these differ: "
            f"{'; '.join(differing)}. Use the old ones, or start over without resume"
        )
