"""One training run of either side. Its LoRA is saved at regular training times and evaluated by time_to_reward.py.

python -m benchmarks.ddpo_vs_trl.train_run ours|trl FOLDER '{"seconds": 240, "mark": 20, "seed": 0, "settings": {}}'
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from reward.files.writing import write_text


class Marks:
    """Saves a LoRA whenever `every` more training seconds have passed: FOLDER/mark_NNN, with mark.json in it."""

    def __init__(self, folder: Path, every: float) -> None:
        self.folder, self.every, self.count = folder, every, 0
        self.cpu = time.process_time()

    def save(self, seconds: float, epochs: int, write_lora: Any, *, last: bool = False) -> None:
        """Save if a mark is due, or at the end of the run."""
        if seconds < self.every * (self.count + 1) and not last:
            return
        self.count = max(self.count + 1, int(seconds // self.every))
        folder = self.folder / f"mark_{self.count:03d}"
        write_lora(folder)
        record = {"seconds": seconds, "cpu_seconds": time.process_time() - self.cpu, "epochs": epochs}
        write_text(folder / "mark.json", json.dumps(record))


def run_ours(folder: Path, plan: dict[str, Any]) -> None:
    """Train the packaged recipe with our loop. The saved LoRAs are moving averages, as in a normal run."""
    from benchmarks.ddpo_vs_trl.our_side import recipe
    from rl.lora.adapter import save_lora
    from rl.packaged import resolve_packaged
    from rl.trainer import Trainer
    from rl.updates.ddpo import DDPOUpdate

    class MarkedTrainer(Trainer):
        """A trainer that saves marks. Its time includes everything in an epoch, and the marks."""

        def _log(self, metrics: dict[str, float]) -> None:
            super()._log(metrics)
            with self._best_weights():
                marks.save(
                    self.train_seconds, self.epoch,
                    lambda folder: save_lora(self.policy.denoiser, type(self.pipeline), folder),
                    last=self.train_seconds >= plan["seconds"],
                )

    settings = {"max_train_seconds": plan["seconds"], "output_dir": folder / "run"} | plan["settings"]
    trainer = MarkedTrainer.from_config(recipe(plan["seed"], **settings), DDPOUpdate, resolve=resolve_packaged)
    marks = Marks(folder, plan["mark"])
    trainer.train()


def run_trl(folder: Path, plan: dict[str, Any]) -> None:
    """Call TRL's `step` for each epoch until the time is up."""
    from benchmarks.ddpo_vs_trl.trl_side import TrlSide

    side = TrlSide(plan["settings"] | {"seed": plan["seed"]})
    marks, seconds = Marks(folder, plan["mark"]), 0.0
    while seconds < plan["seconds"]:
        seconds += side.run_epoch()["seconds"]
        marks.save(seconds, side.epoch, side.save, last=seconds >= plan["seconds"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"ours": run_ours, "trl": run_trl}[sys.argv[1]](Path(sys.argv[2]), json.loads(sys.argv[3]))
