"""Overhead of a call over plain open_clip, for the tiny model and one picture, in one process with alternating calls.

python -m benchmarks.scoring.one_by_one

The overhead is about a millisecond. Between two turns of `benchmarks.scoring.run`, the speed of a busy machine changes
by more than that. Here each of our calls is directly before or after one of open_clip. A row of one_by_one.csv is a
block of such pairs.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import torch
from tqdm.auto import tqdm

from benchmarks.results_file import put_table, write_rows
from benchmarks.scoring.backbones import write_open_clip
from benchmarks.scoring.run import PIXELS, write_pictures
from benchmarks.scoring.scorers import REPEATED, HyperAlignScorer, OpenClipScorer, Scorer
from reward.cli.flags import ArgumentParser

RESULTS = Path(__file__).with_name("one_by_one.csv")
COLUMNS = ("inputs", "prompts", "block", "ours_ms", "open_clip_ms", "above_ms")


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=100, help="pairs of calls in a block")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "pictures"
        write_pictures(pictures, 1, PIXELS["tiny"])
        settings = {"open_clip": str(write_open_clip("tiny", Path(scratch))), "pictures": str(pictures)}
        ours, theirs = HyperAlignScorer(settings), OpenClipScorer(settings)
        conditions = list(itertools.product(("files", "tensors"), ("repeated", "unique")))
        for block in tqdm(range(-1, arguments.blocks), desc="blocks"):
            for inputs, prompts in conditions:
                found = measure(ours, theirs, inputs, prompts, arguments.pairs)
                if block >= 0:
                    rows.append({"inputs": inputs, "prompts": prompts, "block": block} | found)
    write_rows(RESULTS, COLUMNS, rows)
    put_table("scoring/one_by_one.csv", table(rows))


def measure(ours: Scorer, theirs: Scorer, inputs: str, prompts: str, pairs: int) -> dict[str, float]:
    """Medians of a block, in milliseconds."""
    seconds: dict[Scorer, list[float]] = {ours: [], theirs: []}
    for pair in range(pairs):
        texts = [REPEATED] if prompts == "repeated" else ours.new_prompts(1)
        for side in (ours, theirs) if pair % 2 else (theirs, ours):
            seconds[side].append(once(side, inputs, texts))
    both = zip(seconds[ours], seconds[theirs], strict=True)
    return {
        "ours_ms": round(1000 * median(seconds[ours]), 3), "open_clip_ms": round(1000 * median(seconds[theirs]), 3),
        "above_ms": round(1000 * median(one - other for one, other in both), 3),
    }  # fmt: skip


def once(side: Scorer, inputs: str, texts: list[str]) -> float:
    """Seconds of one call, with reading the file but without making the tensor."""
    files, tensors = side.inputs(1, inputs)
    started = time.perf_counter()
    side.call(files, tensors, texts, "no_grad")
    return time.perf_counter() - started


def table(rows: list[dict]) -> str:
    """Markdown: medians over blocks, and the quartiles of the differences."""
    lines = ["| pictures | prompts | ours, ms | open_clip, ms | above it, ms | middle half of the blocks |"]
    lines.append("| --- " * 6 + "|")
    for inputs, prompts in dict.fromkeys((row["inputs"], row["prompts"]) for row in rows):
        own = [row for row in rows if (row["inputs"], row["prompts"]) == (inputs, prompts)]
        one, other, above = (median(row[key] for row in own) for key in COLUMNS[3:])
        low, _, high = quantiles([row["above_ms"] for row in own], n=4)
        lines.append(f"| {inputs} | {prompts} | {one:.2f} | {other:.2f} | {above:+.2f} | {low:+.2f} to {high:+.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
