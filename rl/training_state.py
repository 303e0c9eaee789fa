"""Save a trainer's state to a checkpoint and restore it."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object, set_seed

from rl.config.loading import write_yaml
from rl.lora.adapter import load_lora, save_lora
from rl.runs.checkpoints import load_checkpoint, optimizer_tensors, restore_optimizer, save_checkpoint
from rl.runs.random_state import random_state, restore_random_state
from rl.runs.stop_signal import announce


def save_trainer(trainer: Any) -> None:
    """Write `checkpoints/checkpoint_{epoch}`. Every process must call it; the main process writes."""
    accelerator = trainer.accelerator
    states = gather_object([random_state()])
    if accelerator.is_main_process:
        tensors, values = optimizer_tensors(trainer.optimizer)
        tensors |= {f"random.{rank}.{name}": part for rank, own in enumerate(states) for name, part in own.items()}
        state = {
            "epoch": trainer.epoch,
            "processes": accelerator.num_processes,
            "train_seconds": trainer.train_seconds,
            "optimizer": values,
            "update": trainer.update.state_dict(),
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
            "early_stop": trainer.early_stop.state_dict(),
        }
        tensors |= {f"best.{i}": weight for i, weight in enumerate(trainer.early_stop.weights)}
        tensors |= {f"update.{name}": tensor for name, tensor in trainer.update.state_tensors().items()}
        if trainer.average:
            state["average_updates"] = trainer.average.updates
            tensors |= {f"average.{i}": shadow for i, shadow in enumerate(trainer.average.shadow)}

        def write_rest(folder: Path) -> None:
            save_lora(trainer.policy.denoiser, type(trainer.pipeline), folder)
            write_yaml(trainer.config, folder / "config.yaml")

        save_checkpoint(
            trainer.run, trainer.epoch, tensors=tensors, state=state, write_rest=write_rest,
            keep=trainer.config.num_checkpoint_limit,
        )
    accelerator.wait_for_everyone()


def restore_trainer(trainer: Any, folder: Path) -> None:
    """Restore what `save_trainer` wrote.

    If the number of processes has changed, the saved random states cannot be used. Every process is then seeded again
    and a message is printed. Pictures do not depend on these states, because their noise has its own seeds.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or LoRA or optimiser do not fit.
    """
    tensors, state = load_checkpoint(folder)
    try:
        _restore(trainer, folder, tensors, state)
    # not a trainer's checkpoint: a missing key, a value of a wrong type, a tensor of a wrong size
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError) as error:
        raise ValueError(f"Expected a trainer's checkpoint in {folder}, got a malformed one: {error!r}.") from error


def _restore(trainer: Any, folder: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    accelerator = trainer.accelerator
    load_lora(trainer.policy.denoiser, type(trainer.pipeline), folder)
    restore_optimizer(trainer.optimizer, tensors, state["optimizer"])
    trainer.update.load_state_dict(state["update"])
    own = {name.removeprefix("update."): part for name, part in tensors.items() if name.startswith("update.")}
    trainer.update.load_state_tensors(own)
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    average = trainer.average
    if average and "average_updates" in state:
        average.updates = state["average_updates"]
        average.shadow = [tensors[f"average.{i}"].to(shadow.device) for i, shadow in enumerate(average.shadow)]
    if "early_stop" in state:
        best = [tensors[f"best.{i}"] for i in range(len(trainer.lora)) if f"best.{i}" in tensors]
        trainer.early_stop.load_state_dict(state["early_stop"], best)
    trainer.epoch, trainer.train_seconds = state["epoch"], state["train_seconds"]
    # Checkpoints of version 0.1.0 do not hold the number of processes, and only the main one's random state.
    saved, now = state.get("processes"), accelerator.num_processes
    if saved == now:
        prefix = f"random.{accelerator.process_index}."
        restore_random_state(
            {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}
        )
        return
    set_seed(trainer.config.seed + trainer.epoch, device_specific=True)
    if accelerator.is_main_process:
        announce(
            f"{folder} was saved by {saved or 'an unknown number of'} process(es), this run has {now}. The random "
            "generators are seeded again. An epoch's pictures and prompts stay the same if sample_batch_size x "
            "sample_num_batches_per_epoch x processes stays the same; sums may round differently."
        )
