"""Memory and bytes per picture, prompt, process and epoch. Results go to growth.csv.

OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python -m benchmarks.scaling.growth

Each function of a run is measured alone at several sizes, every row in its own process. *bytes* are written to disk or
sent to other processes. *peak_mb* minus *start_mb* is the memory that it takes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.results_file import write_rows
from benchmarks.scaling.one_process import in_turns
from reward.cli.flags import ArgumentParser
from rl.models.policy import sample_seed
from rl.prompts import epoch_prompts
from rl.runs.metrics_file import RunReporter
from rl.runs.random_state import random_state
from rl.updates.ddpo import PromptStatistics, compute_advantages

RESULTS = Path(__file__).with_name("growth.csv")
COLUMNS = ("what", "size", "repeat", "seconds", "bytes", "start_mb", "peak_mb")
METRICS = 24  # columns of metrics.csv in a run with two rewards and the reward-hacking panel
GROUP = 8
REWARDS = 2  # the sum and one reward, gathered from every process


def metrics_row(epochs: int) -> tuple[float, int]:
    """Write one row to a metrics.csv with this many epochs."""
    with tempfile.TemporaryDirectory() as folder:
        reporter = RunReporter(Path(folder))
        for epoch in range(epochs):
            row = {f"metric/{number}": epoch / (number + 3) for number in range(METRICS)}
            started = time.process_time()
            reporter.log(epoch, row)
            seconds = time.process_time() - started
        return seconds, (Path(folder) / "metrics.csv").stat().st_size


def prompt_statistics(prompts: int) -> tuple[float, int]:
    """Per-prompt statistics of an epoch with a group of pictures for every prompt, with the default buffer."""
    names = [f"prompt number {number}, of some length as prompts are" for number in range(prompts)]
    tracker = PromptStatistics(buffer_size=16, min_count=16)
    for _ in range(16 // GROUP):
        rewards = torch.rand(prompts * GROUP)
        started = time.process_time()
        tracker.update([name for name in names for _ in range(GROUP)], rewards)
        seconds = time.process_time() - started
    return seconds, len(json.dumps({"prompt_statistics": tracker.rewards}, indent=2))


def drawing_prompts(prompts: int) -> tuple[float, int]:
    """Choose an epoch's 128 prompts from this many; every process does it."""
    names = [f"prompt number {number}, of some length as prompts are" for number in range(prompts)]
    started = time.process_time()
    epoch_prompts(names, 128, 3, 0)
    return time.process_time() - started, 0


def gathered(pictures: int) -> tuple[float, int]:
    """Compute advantages from the gathered scores of all pictures of an epoch; every process does it."""
    scores = torch.rand(pictures, REWARDS)
    started = time.process_time()
    compute_advantages(scores[:, 0], GROUP, "group_mean", 5.0)
    return time.process_time() - started, scores.nbytes


def seeds(pictures: int) -> tuple[float, int]:
    """Compute the seeds of a process's own pictures."""
    started = time.process_time()
    for number in range(pictures):
        sample_seed(0, 1, number)
    return time.process_time() - started, 0


def random_states(processes: int) -> tuple[float, int]:
    """Save the random states that a checkpoint gathers from this many processes."""
    started = time.process_time()
    states = [random_state() for _ in range(processes)]
    return time.process_time() - started, sum(part.nbytes for state in states for part in state.values())


SIZES: dict[Callable[[int], tuple[float, int]], tuple[int, ...]] = {
    metrics_row: (100, 1_000, 10_000), prompt_statistics: (100, 1_000, 10_000), gathered: (10_000, 100_000, 1_000_000),
    drawing_prompts: (10_000, 100_000, 1_000_000), seeds: (1_000, 10_000, 100_000), random_states: (1, 64, 1024),
}  # fmt: skip


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Measure a row in the current process."""
    function = next(function for function in SIZES if function.__name__ == case["what"])
    seconds, size = function(case["size"])
    return {"seconds": f"{seconds:.6f}", "bytes": size}


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, default=10**9, help="largest size to run")
    arguments = parser.parse_args()
    cases = [
        {"what": function.__name__, "size": size}
        for function, sizes in SIZES.items() for size in sizes if size <= arguments.most
    ]  # fmt: skip
    in_turns(measure, cases, arguments.repeats, lambda rows: write_rows(RESULTS, COLUMNS, rows))


if __name__ == "__main__":
    main()
