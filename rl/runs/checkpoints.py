"""Checkpoints: everything that a run needs to resume, written atomically and without pickles.

checkpoint_N/  pytorch_lora_weights.safetensors   the LoRA, in diffusers' format
               training_state.safetensors         optimiser, moving average, every process's random state
               state.json  config.yaml            counters and the config
               SHA256SUMS                         checksums of these files, for `sha256sum -c`
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reward.files.quoting import shortened
from reward.files.writing import naming, write_text
from rl.runs.stop_signal import announce

TENSORS_NAME = "training_state.safetensors"
STATE_NAME = "state.json"
SUMS_NAME = "SHA256SUMS"


def save_checkpoint(
    run: Path,
    number: int,
    *,
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    write_rest: Callable[[Path], None],
    keep: int,
) -> Path:
    """Write `checkpoints/checkpoint_{number}` atomically, then remove the oldest checkpoints beyond `keep`.

    The folder is written under a scratch name and renamed at the end. A checkpoint is also renamed before it is
    removed, so a folder with a checkpoint's name is always complete.

    Args:
        run: the run folder.
        number: of the checkpoint, usually the epoch.
        tensors: for training_state.safetensors.
        state: JSON data for state.json.
        write_rest: writes the other files into the folder that it is called with.
        keep: number of checkpoints to keep.

    Returns:
        the folder.

    Raises:
        OSError: disk full or no permission; the earlier checkpoints are unchanged.
    """
    folder = run / "checkpoints"
    remove_unfinished(run)
    scratch, final = folder / f".checkpoint_{number}.tmp", folder / f"checkpoint_{number}"
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with naming(final):
            scratch.mkdir(parents=True)
            save_file(plain, scratch / TENSORS_NAME)
            write_text(scratch / STATE_NAME, json.dumps(state, indent=2))
            write_rest(scratch)
            sums = [f"{_sum(path)}  {path.name}\n" for path in sorted(scratch.iterdir())]
            write_text(scratch / SUMS_NAME, "".join(sums))
            for path in scratch.iterdir():
                _to_disk(path)
    except BaseException:
        # An incomplete checkpoint is useless, and on a full disk it takes space.
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if final.exists():
        _remove(final)
    os.replace(scratch, final)
    for old in list_checkpoints(run)[:-keep]:
        _remove(old)
    return final


def remove_unfinished(run: Path) -> None:
    """Remove incomplete checkpoints of a run that was killed while it wrote or removed them."""
    for folder in (run / "checkpoints").glob(".checkpoint_*"):
        # Errors are ignored. Without permission, writing fails next, with a message that names the folder.
        shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    hidden = folder.with_name(f".{folder.name}.old")
    folder.rename(hidden)
    shutil.rmtree(hidden)


def _to_disk(path: Path) -> None:
    # A rename may reach the disk before the contents. After a power cut the file would have its name but be empty.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(folder: Path) -> str:
    """What is wrong with the files of a checkpoint; empty if they are as they were written.

    Checkpoints of version 0.1.0 have no SHA256SUMS. For them only missing files are found.
    """
    missing = [name for name in (TENSORS_NAME, STATE_NAME) if not (folder / name).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    try:
        if not (folder / SUMS_NAME).exists():
            return ""
        lines = (folder / SUMS_NAME).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        for name in {TENSORS_NAME, STATE_NAME, *sums}:
            if _sum(folder / name) != sums.get(name):
                return f"{name} is damaged ({SUMS_NAME} has another checksum)"
    except (OSError, UnicodeDecodeError) as error:
        return str(error)
    return ""


def load_checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors and the state of a checkpoint folder.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a damaged file.
    """
    for name in (TENSORS_NAME, STATE_NAME):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"Expected a checkpoint with {name} at {folder}, found none.")
    try:
        tensors = load_file(folder / TENSORS_NAME)
        state = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    # KeyError: a data type that torch does not have
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        said = shortened(repr(error))
        raise ValueError(f"Expected a checkpoint in {folder} but could not read it: {said}.") from error
    if not isinstance(state, dict):
        raise ValueError(f"Expected a JSON object in {folder / STATE_NAME}, got a {type(state).__name__}.")
    return tensors, state


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    found = [path for path in (run / "checkpoints").glob("checkpoint_*") if re.fullmatch(r"checkpoint_\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("_")[2]))


def find_checkpoint(path: Path, *, tell: bool = True) -> Path:
    """The checkpoint to resume from: a checkpoint folder itself, or the newest undamaged checkpoint of a run folder.

    Args:
        path: the config's `resume_from`.
        tell: print which damaged checkpoints are skipped.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: all are damaged.
    """
    if (path / STATE_NAME).is_file() or (re.fullmatch(r"checkpoint_\d+", path.name) and path.is_dir()):
        if trouble := damage(path):
            raise ValueError(
                f"resume_from: expected a whole checkpoint, got {path}: {trouble}. To resume from the newest undamaged "
                f"one, give the run folder, {path.parent.parent}."
            )
        return path
    found = list_checkpoints(path)
    if not found:
        raise FileNotFoundError(
            f"resume_from: expected a run folder with checkpoints/checkpoint_N, got {path}, which has none."
        )
    troubles = []
    for folder in reversed(found):
        trouble = damage(folder)
        if not trouble:
            if troubles and tell:
                announce(f"Resuming from {folder}. Damaged checkpoints are skipped: {'; '.join(troubles)}")
            return folder
        troubles.append(f"{folder}: {trouble}")
    raise ValueError(f"resume_from: expected a whole checkpoint, got only damaged ones: {'; '.join(troubles)}.")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimiser's state as tensors, named `optimizer.{parameter}.{name}`, and JSON values."""
    state = optimizer.state_dict()
    tensors, values = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                values[f"{index}.{name}"] = value
    return tensors, values


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], values: dict[str, Any]
) -> None:
    """Restore the result of `optimizer_tensors`. Learning rate and betas are not restored: this run's config sets them.

    Raises:
        ValueError: the state is for another number of parameters.
    """
    entries: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *((f"optimizer.{key}", value) for key, value in values.items())]:
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            entries.setdefault(int(index), {})[name] = value
    state = optimizer.state_dict()
    expected = {index for group in state["param_groups"] for index in group["params"]}
    if entries and set(entries) != expected:
        raise ValueError(
            f"Expected optimiser state for {len(expected)} parameters, got {len(entries)}. Resume with the LoRA "
            "rank and targets of the saved run."
        )
    optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
