"""Time, memory and stored bytes of an epoch: our DDPO and TRL 0.23.1's, side by side. Rows go to speed.csv.

TRL_0_23_1=FOLDER python -m benchmarks.ddpo_vs_trl.speed             # every case that is not in the table
TRL_0_23_1=FOLDER python -m benchmarks.ddpo_vs_trl.speed --dry       # a minute, nothing written

FOLDER holds TRL 0.23.1 (`pip install --no-deps --target FOLDER trl==0.23.1`). Every side of a case is a live process
with one thread; they take turns epoch by epoch, so that whatever else the machine does falls on all alike. Same tiny
pipeline, HyperAlign reward, batches, fp32, LoRA (rank 4 on attention), optimiser steps and number of trained steps.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.results_file import read_rows, short, write_rows

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("speed.csv")
COLUMNS = (
    "case", "side", "steps_per_pass", "repeat", "seconds", "cpu_seconds", "sampling", "reward", "update", "peak_mb",
    "rise_mb", "stored_bytes", "stored_bytes_text", "trained_steps", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Settings that both trainers know by the same names, and the passes that ours is tried with."""

    name: str
    settings: dict
    passes: tuple[int, ...] = field(default=(1,))


COMMON = {
    "sample_eta": 1.0, "sample_batch_size": 16, "sample_num_batches_per_epoch": 2, "train_batch_size": 16,
    "train_gradient_accumulation_steps": 1, "train_learning_rate": 3e-4, "train_clip_range": 1e-4,
}  # fmt: skip
CASES = (
    Case("20 steps, guidance 2", {"sample_num_steps": 20, "sample_guidance_scale": 2.0}, (1, 2, 5, 20)),
    Case("50 steps, guidance 2", {"sample_num_steps": 50, "sample_guidance_scale": 2.0}, (1, 2)),
    Case(
        "20 steps, guidance 2, trained without",
        {"sample_num_steps": 20, "sample_guidance_scale": 2.0, "train_cfg": False}, (1, 5),
    ),
    Case("20 steps, no guidance", {"sample_num_steps": 20, "sample_guidance_scale": 1.0}),
)
DRY = Case("dry", {"sample_num_steps": 5, "sample_guidance_scale": 2.0}, (1, 5))


class Worker:
    """A live side."""

    def __init__(self, side: str, settings: dict, trl: str) -> None:
        path = [str(ROOT)] if side == "ours" else [trl, str(ROOT)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.ddpo_vs_trl.speed_worker", side, json.dumps(settings)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.side, self.steps_per_pass = side, settings.get("train_steps_per_pass", 1)
        self.error = self._answer().get("error", "")

    def epoch(self) -> dict:
        """One epoch's record; a worker that failed answers with its error only."""
        if not self.error:
            self.process.stdin.write("epoch\n")
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


def run_case(case: Case, trl: str, repeats: int, warm_up: int) -> list[dict]:
    """Rows of a case: `repeats` epochs of every side, in turns, after `warm_up` unrecorded ones."""
    settings = COMMON | case.settings
    workers = [Worker("trl", settings, trl)]
    workers += [Worker("ours", settings | {"train_steps_per_pass": count}, trl) for count in case.passes]
    rows = []
    try:
        for repeat in range(-warm_up, repeats):
            # Forwards, then backwards: no side always follows the same other.
            for worker in workers if repeat % 2 else workers[::-1]:
                record = worker.epoch()
                if repeat < 0 or (repeat > 0 and "error" in record):
                    continue
                head = {"case": case.name, "side": worker.side, "steps_per_pass": worker.steps_per_pass}
                rows.append(head | {"repeat": repeat} | record)
                print(*(f"{key} {short(value)}" for key, value in rows[-1].items()), sep="  ", flush=True)
    finally:
        for worker in workers:
            worker.close()
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", default=os.environ.get("TRL_0_23_1"), help="folder of TRL 0.23.1")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    if not arguments.trl:
        sys.exit("Expected a folder with TRL 0.23.1 in --trl or TRL_0_23_1, got none.")
    if arguments.dry:
        run_case(DRY, arguments.trl, repeats=2, warm_up=1)
        return
    rows = read_rows(RESULTS)
    for case in CASES:
        if any(row["case"] == case.name for row in rows):
            print(f"{case.name}: already in {RESULTS.name}")
            continue
        rows += run_case(case, arguments.trl, arguments.repeats, arguments.warm_up)
        write_rows(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
