"""Cost of an epoch of DDPO by number of pictures, sampling steps and resolution. Results go to ddpo.csv.

OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python -m benchmarks.scaling.ddpo

The packaged recipe on the tiny world, with one number changed at a time. Every row is the first epoch of a new process.
*Above start*: the process's peak memory minus its memory before the model was loaded, so without the libraries.
"""

import argparse
import importlib
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.results_file import write_rows
from benchmarks.scaling.one_process import in_turns
from reward.cli.flags import ArgumentParser
from rl.config.ddpo_config import DDPOConfig
from rl.config.loading import load_config
from rl.packaged import packaged_recipe, resolve_packaged
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate

RESULTS = Path(__file__).with_name("ddpo.csv")
PARTS = ("rollout", "decode", "reward", "update")
COLUMNS = ("axis", "value", "repeat", "pictures", "steps", "resolution", "seconds", "epoch_cpu_seconds", *PARTS,
           "start_mb", "peak_mb")  # fmt: skip
BASE = {"pictures": 32, "steps": 3, "resolution": 48}
AXES = {"pictures": (32, 128, 512), "steps": (3, 6, 12), "resolution": (48, 96)}
LIBRARIES = ("diffusers", "transformers", "open_clip", "peft", "trl")  # loaded before the process forks
BATCH = 32


def cases() -> list[dict[str, Any]]:
    """The values of every axis, with the other two as in BASE."""
    return [BASE | {"axis": axis, "value": value, axis: value} for axis, values in AXES.items() for value in values]


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Seconds of an epoch in the current process, in total and by part."""
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "output_dir": folder, "log_with": "none", "num_threads": 1, "sample_num_steps": case["steps"],
            "resolution": case["resolution"], "sample_batch_size": BATCH,
            "sample_num_batches_per_epoch": case["pictures"] // BATCH, "train_batch_size": BATCH,
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        config = load_config(
            DDPOConfig, arguments, default_recipe=packaged_recipe("ddpo.yaml"), prog="", description=""
        )
        trainer = Trainer.from_config(config, DDPOUpdate, resolve=resolve_packaged)
        trainer.reporter = None
        started, cpu = time.perf_counter(), time.process_time()
        metrics = trainer._run_epoch(0)
        row = {"seconds": time.perf_counter() - started, "epoch_cpu_seconds": time.process_time() - cpu}
    return row | {part: metrics[f"seconds/{part}"] for part in PARTS}


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", type=int, help="run only the first N cases")
    arguments = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    from diffusers import StableDiffusionPipeline  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    in_turns(measure, cases()[: arguments.cases], arguments.repeats, lambda rows: write_rows(RESULTS, COLUMNS, rows))


if __name__ == "__main__":
    main()
