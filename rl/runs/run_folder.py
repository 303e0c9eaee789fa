"""Set up a run: its folder, new or resumed, and the accelerator with its trackers."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from reward.files.writing import remove_scratch, write_text
from rl.config.train_config import TrainConfig
from rl.rewards.loading import NonFiniteRewardError
from rl.runs.checkpoints import remove_unfinished
from rl.runs.pictures import save_picture


def make_accelerator(config: TrainConfig) -> Any:
    """The `accelerate.Accelerator` for a config. Trackers write inside the run folder."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration

    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    if config.allow_tf32 and torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True
    run = Path(config.output_dir)
    project = {"project_dir": str(run), "logging_dir": str(run / config.logdir)} | config.project_kwargs
    tracker = config.log_with
    if tracker == "auto":
        tracker = "tensorboard" if importlib.util.find_spec("tensorboard") else None
    return Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=tracker,
        project_config=ProjectConfiguration(**project),
        **config.accelerator_kwargs,
    )


def start_trackers(accelerator: Any, config: TrainConfig) -> None:
    """Start the trackers that `make_accelerator` chose, with the config's names."""
    if not accelerator.log_with:
        return
    name = config.run_name or config.exp_name
    own: dict[str, dict[str, Any]] = {
        # Without dir, wandb writes into the working directory.
        "wandb": {"name": name, "dir": str(accelerator.logging_dir)},
        "trackio": {"name": name},
    }
    trackers = [str(getattr(tracker, "value", tracker)) for tracker in accelerator.log_with]
    kwargs = {tracker: own[tracker] for tracker in trackers if tracker in own} | dict(config.tracker_kwargs)
    if "wandb" in kwargs and accelerator.is_main_process:
        Path(accelerator.logging_dir).mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers(config.tracker_project_name, init_kwargs=kwargs)


def prepare_run_folder(run: Path, resumed: Path | None) -> None:
    """Make the run folder. An earlier run in it is moved to `NAME.previous-K`, unless it is resumed.

    Raises:
        FileExistsError: the folder has files but is not a run folder.
    """
    remove_scratch(run)
    remove_unfinished(run)
    continues = resumed is not None and run.resolve() in resumed.resolve().parents
    if run.exists() and _holds_files(run) and not continues:
        if not (run / "config.yaml").is_file():
            raise FileExistsError(
                f"output_dir: expected a new folder, an empty one or an earlier run, got {run}, which holds other "
                "files. Choose another output_dir."
            )
        number = 1
        while (aside := run.with_name(f"{run.name}.previous-{number}")).exists():
            number += 1
        run.rename(aside)
        print(f"The earlier run in {run} was moved to {aside}.")
    (run / "samples").mkdir(parents=True, exist_ok=True)
    (run / "checkpoints").mkdir(exist_ok=True)


def _holds_files(run: Path) -> bool:
    # Empty folders and scratch files of a run that was killed at its start do not count.
    return any(path.is_file() and not path.name.startswith(".") for path in run.rglob("*"))


def save_failure(run: Path, process: int, epoch: int, error: NonFiniteRewardError) -> Path:
    """Save the pictures, prompts and rewards of a batch with a non-finite reward to `failure/`; returns that folder."""
    folder = run / "failure"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (prompt, reward) in enumerate(zip(error.prompts, error.rewards.tolist(), strict=True)):
        name = f"process{process}_{i:03d}.png"
        save_picture(error.images[i], folder / name)
        rows.append({"picture": name, "prompt": prompt, "reward": str(reward)})
    record = {"epoch": epoch + 1, "error": str(error), "pictures": rows}
    write_text(folder / f"process{process}.json", json.dumps(record, indent=2))
    return folder
