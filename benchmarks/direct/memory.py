"""Does DRaFT-K's memory grow with K and not with T? Peak resident size of one optimiser step: rows of memory.csv.

python -m benchmarks.direct.memory [--write]      # --write: the table into benchmarks/README.md

Every row is a process of its own on the tiny world: 16 pictures, no guidance, float32, LoRA of rank 4 on attention.
*Above ready*: the step's peak above the loaded trainer. Blocks of 128 KB and more go back to the system at once
(MALLOC_MMAP_THRESHOLD_), so that the resident size is what lives and not what the allocator holds back.
"""

import argparse
import os
from pathlib import Path

from benchmarks.results_file import put_table, read_rows, write_rows
from benchmarks.sides import Side, take_turns

RESULTS = Path(__file__).with_name("memory.csv")
COLUMNS = ("steps", "depth", "checkpointing", "ready_mb", "peak_mb", "above_ready_mb", "error")
STEPS, DEPTHS = (10, 20, 40), (1, 2, 5, 10)


def measure(steps: int, depth: int, checkpointing: bool) -> dict:
    """A row."""
    labels = {"steps": steps, "depth": depth, "checkpointing": int(checkpointing)}
    settings = {
        "sample_num_steps": steps, "depth": depth, "train_step_checkpointing": checkpointing, "sample_batch_size": 16,
        "sample_guidance_scale": 1.0,
    }  # fmt: skip
    (row,) = take_turns([Side(labels, "benchmarks.direct_vs_trl.our_side:OurSide", settings)], repeats=1, warm_up=0)
    return row if "error" in row else row | {"above_ready_mb": row["peak_mb"] - row["ready_mb"]}


def table(rows: list[dict]) -> str:
    """A line a K, a column a T, with and without checkpointing."""
    found = {(row["checkpointing"], row["depth"], row["steps"]): row["above_ready_mb"] for row in rows}
    head = [f"T = {steps}{text}" for text in ("", ", checkpointed") for steps in STEPS]
    lines = ["| MB above ready | " + " | ".join(head) + " |", "| --- " * (len(head) + 1) + "|"]
    for depth in DEPTHS:
        cells = [found.get((flag, str(depth), str(steps)), "") for flag in "01" for steps in STEPS]
        lines.append(f"| K = {depth} | " + " | ".join(f"{float(cell):.0f}" if cell else "" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    arguments = parser.parse_args()
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**17)
    rows = read_rows(RESULTS)
    for checkpointing in (False, True):
        for depth in DEPTHS:
            for steps in STEPS:
                key = (str(steps), str(depth), str(int(checkpointing)))
                if any((row["steps"], row["depth"], row["checkpointing"]) == key for row in rows):
                    continue
                rows.append(measure(steps, depth, checkpointing))
                write_rows(RESULTS, COLUMNS, rows)
    rows = read_rows(RESULTS)
    print(table(rows))
    if arguments.write:
        put_table("direct/memory.csv", table(rows))


if __name__ == "__main__":
    main()
