"""Run the sides of a comparison as processes that take turns, so that other work on the machine affects all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results_file import short

ROOT = Path(__file__).resolve().parents[1]


class Side:
    """A process of `benchmarks.side_worker` with one CPU thread.

    Args:
        labels: first columns of its rows.
        target: MODULE:CLASS.
        settings: argument of the class.
        first_on_path: folder whose packages come before the installed ones, e.g. that of TRL 0.23.1.
    """

    def __init__(self, labels: dict, target: str, settings: dict, first_on_path: str = "") -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [first_on_path, str(ROOT)])), "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        self.labels = labels
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side_worker", target, json.dumps(settings)],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        self.error = self._answer().get("error", "")

    def epoch(self, condition: dict | None = None) -> dict:
        """Run an epoch; returns its record, or only "error" if the side failed.

        Args:
            condition: keyword arguments of `run_epoch`.
        """
        if not self.error:
            self.process.stdin.write(f"{json.dumps(condition or {})}\n")
            self.process.stdin.flush()
            record = self._answer()
            self.error = record.get("error", "")
            if not self.error:
                return record
        return {"error": self.error[:80]}

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"ended with code {self.process.wait()}"}


def take_turns(sides: Sequence[Side], repeats: int, warm_up: int) -> list[dict]:
    """Run `repeats` epochs of every side in turns, after `warm_up` uncounted ones; return the rows, close the sides."""
    rows = []
    try:
        for repeat in range(-warm_up, repeats):
            # Alternate the order, so that no side always follows the same other one.
            for side in sides if repeat % 2 else sides[::-1]:
                record = side.epoch()
                if repeat < 0 or (repeat > 0 and "error" in record):
                    continue
                rows.append(side.labels | {"repeat": repeat} | record)
                print(*(f"{key} {short(value)}" for key, value in rows[-1].items()), sep="  ", flush=True)
    finally:
        for side in sides:
            side.close()
    return rows
