"""Cost of `hyperalign score` by the number of rows of its table. Results go to scoring.csv.

OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python -m benchmarks.scaling.scoring

The built-in reward scores 256 pictures of 48 px. The table repeats them, with a different prompt in each row, so that
no two rows are equal. *none*: the same number of rows with missing pictures, each of which is reported. Every
measurement is the time of the full command in its own process.
"""

import argparse
import contextlib
import csv
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import reward
from benchmarks.results_file import write_rows
from benchmarks.scaling.one_process import in_turns
from reward.cli import main as cli
from reward.cli.flags import ArgumentParser
from tinyworld import weights_path
from tinyworld.scenes import sample_picture, sample_prompt

RESULTS = Path(__file__).with_name("scoring.csv")
COLUMNS = ("pictures", "rows", "repeat", "seconds", "cpu_seconds", "start_mb", "peak_mb")
SIZES = (100, 1_000, 10_000, 100_000)
PICTURES = 256


def write_table(folder: Path, rows: int, there: bool) -> Path:
    """Write a table with this many rows, and its pictures."""
    rng = np.random.default_rng(0)
    prompts = [sample_prompt(rng) for _ in range(PICTURES)]
    for number, prompt in enumerate(prompts):
        pixels = (255 * sample_picture(prompt, rng)).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    table = folder / "pairs.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt"])
        for row in range(rows):
            image = f"{row % PICTURES}.png" if there else f"none{row}.png"
            writer.writerow([image, f"{prompts[row % PICTURES].text} {row}"])
    return table


def measure(case: dict[str, Any]) -> dict[str, float]:
    """Seconds of the command in the current process."""
    with tempfile.TemporaryDirectory() as scratch:
        there = case["pictures"] == "there"
        table, output = write_table(Path(scratch), case["rows"], there), Path(scratch) / "scores.csv"
        started = time.perf_counter()
        # The messages about missing pictures go to a file.
        with open(Path(scratch) / "errors", "w") as errors, contextlib.redirect_stderr(errors), \
                contextlib.redirect_stdout(io.StringIO()):  # fmt: skip
            words = ["--model", "tinyworld", "--table", str(table), "--output", str(output), "--quiet"]
            code = cli.main(["score", *words])
        seconds = time.perf_counter() - started
        with output.open(newline="") as file:
            written = sum(1 for _ in csv.DictReader(file))
        if (code, written) != ((0, case["rows"]) if there else (cli.SOME_UNREADABLE, 0)):
            raise RuntimeError(f"{case}: expected all rows to be scored, got {written} with exit code {code}")
    return {"seconds": seconds}


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most-rows", type=int, default=SIZES[-1])
    arguments = parser.parse_args()
    sizes = [size for size in SIZES if size <= arguments.most_rows]
    cases = [{"pictures": pictures, "rows": rows} for pictures in ("there", "none") for rows in sizes]
    # A process that has started OpenMP's threads must not be forked: the child would wait for them for ever.
    torch.set_num_threads(1)
    reward.HyperAlignReward.from_pretrained(weights_path("hyperalign"))  # loads the libraries for all processes
    in_turns(measure, cases, arguments.repeats, lambda rows: write_rows(RESULTS, COLUMNS, rows))


if __name__ == "__main__":
    main()
