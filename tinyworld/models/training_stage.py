"""One resumable training stage: AdamW, warm-up and cosine decay, weight averaging, regular checkpoints."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import trange


def train_stage(
    name: str,
    module: torch.nn.Module,
    loss_of_step: Callable[[np.random.Generator], torch.Tensor],
    *,
    work_dir: Path,
    steps: int,
    learning_rate: float,
    seed: int,
    average: float = 0.0,
    report: Callable[[], str] | None = None,
    checkpoint_every: int = 500,
) -> float:
    """Trains a module to the end of its stage, from its last checkpoint if there is one.

    The random numbers of a step depend on (seed, step) only, so a resumed stage gives the same result.

    Args:
        name: name of the checkpoint ``work_dir/name.safetensors`` and of the log lines.
        loss_of_step: draws a batch with the given generator and returns the scalar loss.
        average: decay of the exponential moving average of the weights; the module ends with the average. 0: none.
        report: called at every checkpoint, with the averaged weights in the module; its text is printed.
        checkpoint_every: steps between checkpoints.

    Returns:
        training time in minutes, summed over all sessions of the stage.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    averaged = [p.detach().clone() for p in parameters]
    first, minutes = _restore(work_dir / f"{name}.safetensors", parameters, averaged, optimizer)
    started = time.perf_counter()
    progress = trange(first, steps, initial=first, total=steps, desc=name, mininterval=10)
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * _cosine(step / steps))
        torch.manual_seed(seed * 1_000_003 + step)
        loss = loss_of_step(np.random.default_rng((seed, step)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(average, (step + 1) / (step + 10)) if average else 0.0
        torch._foreach_lerp_(averaged, [p.detach() for p in parameters], 1 - decay)
        if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
            progress.set_postfix(loss=f"{loss.item():.4f}")
            spent = minutes + (time.perf_counter() - started) / 60
            _save(work_dir / f"{name}.safetensors", parameters, averaged, optimizer, step + 1, spent)
            if report:
                _swap(parameters, averaged)
                print(f"{name} step {step + 1} ({spent:.1f} min) loss {loss.item():.4f} {report()}", flush=True)
                _swap(parameters, averaged)
    _swap(parameters, averaged)
    return minutes + (time.perf_counter() - started) / 60


def _cosine(share: float) -> float:
    return 0.5 * (1 + np.cos(np.pi * share))


def _swap(parameters: list, averaged: list) -> None:
    for parameter, mean in zip(parameters, averaged, strict=True):
        parameter.data, mean.data = mean.data, parameter.data


def _save(path: Path, parameters, averaged, optimizer, step: int, minutes: float) -> None:
    tensors = {}
    for index, (parameter, mean) in enumerate(zip(parameters, averaged, strict=True)):
        state = optimizer.state[parameter]  # empty for a parameter without a gradient
        tensors |= {f"{index}.weight": parameter.detach(), f"{index}.average": mean}
        tensors[f"{index}.first"] = state.get("exp_avg", torch.zeros_like(mean))
        tensors[f"{index}.second"] = state.get("exp_avg_sq", torch.zeros_like(mean))
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"state": json.dumps({"step": step, "minutes": minutes})})
    os.replace(partial, path)


def _restore(path: Path, parameters, averaged, optimizer) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["state"])
    tensors = load_file(path)
    for index, (parameter, mean) in enumerate(zip(parameters, averaged, strict=True)):
        parameter.data.copy_(tensors[f"{index}.weight"])
        mean.copy_(tensors[f"{index}.average"])
        optimizer.state[parameter] = {
            "step": torch.tensor(float(state["step"])),
            "exp_avg": tensors[f"{index}.first"],
            "exp_avg_sq": tensors[f"{index}.second"],
        }
    return state["step"], state["minutes"]
