"""Does DRaFT-K's memory grow with K and not with T? Peak resident memory of one optimiser step, in memory.csv.

OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=131072 python -m benchmarks.direct.memory --write

Every row is measured in its own process on the tiny world: 16 pictures, no guidance, float32, LoRA of rank 4 on
attention. The method is AlignProp with a window of one depth, which equals DRaFT-K.
*Above ready*: the step's peak minus the memory of the loaded trainer. With MALLOC_MMAP_THRESHOLD_, blocks of 128 KB and
more are returned to the system at once, so that resident memory is used memory.
"""

import argparse
import multiprocessing
import os
import sys
from pathlib import Path

from benchmarks.direct_vs_trl.our_side import OurSide
from benchmarks.results_file import put_table, read_rows, write_rows
from benchmarks.side_worker import memory, reset_peak
from reward.cli.flags import ArgumentParser

RESULTS = Path(__file__).with_name("memory.csv")
COLUMNS = ("steps", "depth", "checkpointing", "ready_mb", "peak_mb", "above_ready_mb")
STEPS, DEPTHS = (10, 20, 40), (1, 2, 5, 10)


def measure(steps: int, depth: int, checkpointing: bool, pictures: int) -> dict:
    """Measure a row in the current process."""
    side = OurSide({
        "sample_num_steps": steps, "depth": depth, "train_step_checkpointing": checkpointing,
        "sample_batch_size": pictures, "sample_guidance_scale": 1.0,
    })  # fmt: skip
    ready = memory("VmRSS")
    reset_peak()
    side.run_epoch()
    peak = memory("VmHWM")
    return {"steps": steps, "depth": depth, "checkpointing": int(checkpointing), "ready_mb": ready, "peak_mb": peak,
            "above_ready_mb": peak - ready}  # fmt: skip


def table(rows: list[dict]) -> str:
    """Markdown: a line per K, a column per T, with and without checkpointing."""
    found = {(row["checkpointing"], row["depth"], row["steps"]): row["above_ready_mb"] for row in rows}
    head = [f"T = {steps}{text}" for text in ("", ", checkpointed") for steps in STEPS]
    lines = ["| MB above ready | " + " | ".join(head) + " |", "| --- " * (len(head) + 1) + "|"]
    for depth in DEPTHS:
        cells = [found.get((flag, str(depth), str(steps)), "") for flag in "01" for steps in STEPS]
        lines.append(f"| K = {depth} | " + " | ".join(f"{float(cell):.0f}" if cell else "" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--depths", type=int, nargs="+", default=list(DEPTHS))
    parser.add_argument("--pictures", type=int, default=16)
    arguments = parser.parse_args()
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        sys.exit("Expected MALLOC_MMAP_THRESHOLD_=131072 in the environment, found none: see --help.")
    rows = read_rows(RESULTS)
    done = {(row["steps"], row["depth"], row["checkpointing"]) for row in rows}
    cases = [(steps, depth, flag) for flag in (False, True) for depth in arguments.depths for steps in arguments.steps]
    cases = [case for case in cases if tuple(str(int(part)) for part in case) not in done]
    # Each case is a fork, so that the libraries are loaded only once.
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for case in cases:
            rows.append(pool.apply(measure, (*case, arguments.pictures)))
            print(rows[-1], flush=True)
            write_rows(RESULTS, COLUMNS, rows)
    rows = read_rows(RESULTS)
    print(table(rows))
    if arguments.write:
        put_table("direct/memory.csv", table(rows))


if __name__ == "__main__":
    main()
