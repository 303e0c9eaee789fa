"""Time, memory and stored bytes of an epoch: our DDPO and TRL 0.23.1's, side by side. Results go to speed.csv.

TRL_0_23_1=FOLDER python -m benchmarks.ddpo_vs_trl.speed             # every case that is not in the table
TRL_0_23_1=FOLDER python -m benchmarks.ddpo_vs_trl.speed --dry       # a minute, nothing written

FOLDER has TRL 0.23.1 (`pip install --no-deps --target FOLDER trl==0.23.1`). Every side of a case is a process with one
thread. They take turns epoch by epoch, so that other work on the machine affects all of them equally. Pipeline,
HyperAlign reward, batches, fp32, LoRA (rank 4 on attention), optimiser steps and number of trained steps are the same.
"""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sides import Side, take_turns
from benchmarks.trl_race import race

RESULTS = Path(__file__).with_name("speed.csv")
COLUMNS = (
    "case", "side", "steps_per_pass", "repeat", "seconds", "cpu_seconds", "sampling", "reward", "update", "peak_mb",
    "rise_mb", "stored_bytes", "stored_bytes_text", "trained_steps", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Settings that have the same names in both trainers, and the values of train_steps_per_pass to try for ours."""

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


def run_case(case: Case, trl: str, repeats: int, warm_up: int) -> list[dict]:
    """Run a case; returns the rows of `repeats` epochs of every side, in turns, after `warm_up` epochs without rows."""
    settings = COMMON | case.settings
    labels = {"case": case.name, "side": "trl", "steps_per_pass": 1}
    sides = [Side(labels, "benchmarks.ddpo_vs_trl.trl_side:TrlSide", settings, trl)]
    for count in case.passes:
        labels = {"case": case.name, "side": "ours", "steps_per_pass": count}
        settings = COMMON | case.settings | {"train_steps_per_pass": count}
        sides.append(Side(labels, "benchmarks.ddpo_vs_trl.our_side:OurSide", settings))
    return take_turns(sides, repeats, warm_up)


def main() -> None:
    """The command line."""
    race(
        __doc__, RESULTS, COLUMNS, CASES, DRY, run_case, lambda row, case: row["case"] == case.name, repeats=7,
        warm_up=2,
    )  # fmt: skip


if __name__ == "__main__":
    main()
