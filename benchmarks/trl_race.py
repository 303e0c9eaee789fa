"""What both races against TRL 0.23.1 share: the command line, and an epoch of either side with its seconds."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results_file import read_rows, write_rows
from reward.cli.flags import ArgumentParser


def race(
    description: str | None,
    results: Path,
    columns: Sequence[str],
    cases: Sequence[Any],
    dry: Any,
    run_case: Callable[[Any, str, int, int], list[dict]],
    is_row_of: Callable[[dict, Any], bool],
    *,
    repeats: int,
    warm_up: int,
) -> None:
    """The command line of a race: every case that is not in the table yet, or with --dry a short one for nothing.

    Args:
        description: for --help.
        results: the table; its rows are written after each case.
        columns: of the table.
        cases: what is raced.
        dry: the short case.
        run_case: (case, folder of TRL, repeats, warm-up epochs) -> rows.
        is_row_of: whether a row of the table is of a case.
        repeats, warm_up: unless told.
    """
    parser = ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", default=os.environ.get("TRL_0_23_1"), help="folder of TRL 0.23.1")
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--warm-up", type=int, default=warm_up)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    if not arguments.trl:
        sys.exit("Expected a folder with TRL 0.23.1 in --trl or TRL_0_23_1, got none.")
    if arguments.dry:
        run_case(dry, arguments.trl, 2, 1)
        return
    rows = read_rows(results)
    for case in cases:
        if any(is_row_of(row, case) for row in rows):
            print(f"{case}: already in {results.name}")
            continue
        rows += run_case(case, arguments.trl, arguments.repeats, arguments.warm_up)
        write_rows(results, columns, rows)


class OurEpochs:
    """A trainer of ours without reports, one epoch a call."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.trainer.reporter = None
        self.epoch = 0

    def run_epoch(self) -> dict[str, float]:
        """Seconds of the whole and of its parts."""
        started = time.perf_counter()
        metrics = self.trainer._run_epoch(self.epoch)
        total = time.perf_counter() - started
        self.epoch += 1
        return {
            "seconds": total,
            "sampling": metrics["seconds/rollout"] + metrics["seconds/decode"],
            "reward": metrics["seconds/reward"],
            "update": metrics["seconds/update"],
        }


class TheirEpochs:
    """A trainer of TRL's, one epoch a call; `seconds` collects what was spent in its parts."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.seconds: dict[str, float] = {}
        self.epoch = self.global_step = 0

    def timed_epoch(self) -> float:
        """Run an epoch; its seconds."""
        self.seconds = {}
        started = time.perf_counter()
        self.global_step = self.trainer.step(self.epoch, self.global_step)
        self.epoch += 1
        return time.perf_counter() - started
