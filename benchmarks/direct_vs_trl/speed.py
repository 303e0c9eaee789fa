"""Time and memory of an optimiser step: our AlignProp and TRL 0.23.1's AlignPropTrainer. Results go to speed.csv.

TRL_0_23_1=FOLDER python -m benchmarks.direct_vs_trl.speed           # every case that is not in the table
TRL_0_23_1=FOLDER python -m benchmarks.direct_vs_trl.speed --dry     # a minute, nothing written

FOLDER has TRL 0.23.1 (`pip install --no-deps --target FOLDER trl==0.23.1`). Every side of a case is a process with one
thread, and they take turns step by step. Pipeline, HyperAlign reward, batch, fp32, LoRA (rank 4 on attention),
truncation (the last `depth` steps) and checkpointing (of each step; TRL's cannot be turned off) are the same.
`same_work.py` shows that both do the same work.
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.sides import Side, take_turns
from benchmarks.trl_race import race

RESULTS = Path(__file__).with_name("speed.csv")
COLUMNS = (
    "guidance", "steps", "depth", "side", "repeat", "seconds", "cpu_seconds", "sampling", "reward", "update",
    "ready_mb", "peak_mb", "error",
)  # fmt: skip
COMMON = {
    "sample_eta": 1.0, "sample_batch_size": 8, "train_gradient_accumulation_steps": 1, "train_learning_rate": 3e-4,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Settings of a step; `free`: also run ours without checkpointing."""

    guidance: float
    depth: int
    free: bool = False
    steps: int = 20

    @property
    def labels(self) -> dict:
        """The row's first columns."""
        return {"guidance": self.guidance, "steps": self.steps, "depth": self.depth}


CASES = (
    Case(2.0, 20), Case(2.0, 5, free=True), Case(2.0, 1, free=True), Case(1.0, 20), Case(1.0, 5), Case(1.0, 1),
)  # fmt: skip
DRY = Case(1.0, 2, free=True, steps=4)


def run_case(case: Case, trl: str, repeats: int, warm_up: int) -> list[dict]:
    """Run a case; returns the rows of `repeats` steps of every side, in turns, after `warm_up` steps without rows."""
    settings = COMMON | {
        "sample_guidance_scale": case.guidance, "sample_num_steps": case.steps, "depth": case.depth,
    }  # fmt: skip
    own = "benchmarks.direct_vs_trl.our_side:OurSide"
    sides = [
        Side(
            case.labels | {"side": "trl"}, "benchmarks.direct_vs_trl.trl_side:TrlSide",
            settings | {"mend_no_guidance": case.guidance <= 1}, trl,
        ),
        Side(case.labels | {"side": "ours"}, own, settings),
    ]  # fmt: skip
    if case.free:
        settings = settings | {"train_step_checkpointing": False}
        sides.append(Side(case.labels | {"side": "ours, not checkpointed"}, own, settings))
    return take_turns(sides, repeats, warm_up)


def is_row_of(row: dict, case: Case) -> bool:
    """Whether a row of the table is of a case."""
    return all(float(row[name]) == value for name, value in case.labels.items())


def main() -> None:
    """The command line."""
    race(
        __doc__, RESULTS, COLUMNS, CASES, DRY, run_case, is_row_of, repeats=9, warm_up=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
