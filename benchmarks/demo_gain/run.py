"""Does DDPO's recipe raise the oracle's held-out score? One row of results.csv per run.

python benchmarks/demo_gain/run.py --name demo --seeds 0 1 2 3 4 5
python benchmarks/demo_gain/run.py --name shuffled --seeds 0 -- --rewards benchmarks.demo_gain.shuffled:shuffled_reward
python benchmarks/demo_gain/run.py --name one_hour --seeds 0 -- --num_epochs 900

Flags after ``--`` are passed to rl/ddpo_train.py. A run is skipped if its row exists.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(ROOT))

from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from benchmarks.trainer_flags import changed  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = (
    "name", "seed", "overrides", "epochs", "train_seconds", "seconds", "n_prompts", "reward_base", "reward_lora",
    "oracle_base", "oracle_lora", "oracle_gain", "oracle_gain_low", "oracle_gain_high", "guidance_base",
    "guidance_lora",
)  # fmt: skip


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the recipe in the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, help="keep the run folders here; default: they are deleted")
    parser.add_argument("overrides", nargs="*", help="after --: flags of rl/ddpo_train.py")
    arguments = parser.parse_args()
    collect(RESULTS, arguments.name, arguments.seeds, arguments.overrides, arguments.keep)


def collect(
    results: Path, name: str, seeds: list[int], overrides: list[str], keep: Path | None,
    trainer: str = "rl.ddpo_train", flags: Sequence[str] = (),
) -> None:
    """Runs a recipe once a seed and adds a row to the table for each; a row that exists is left.

    Args:
        results: the table.
        name: of the runs.
        overrides: flags that the row names, in the place of `flags` where both have them.
        keep: where the run folders stay; None: they are deleted.
        trainer: module of the entry script.
        flags: further flags of the trainer.
    """
    for seed in seeds:
        rows = read_rows(results)
        if any(row["name"] == name and row["seed"] == str(seed) for row in rows):
            print(f"{name} seed {seed}: already in {results.name}")
            continue
        row = {"name": name, "seed": seed, "overrides": " ".join(overrides)}
        row |= run(name, seed, [trainer, *changed(list(flags), overrides)], keep)
        write_rows(results, COLUMNS, [*read_rows(results), row])
        print(json.dumps(row, indent=2), flush=True)


def run(name: str, seed: int, words: list[str], keep: Path | None) -> dict:
    """Train and evaluate once; `words`: the trainer's module and its flags. Returns the summary's columns."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = (keep or Path(scratch)) / f"{name}_{seed}"
        flags = changed(["--output_dir", str(folder), "--seed", str(seed)], words[1:])
        command = [sys.executable, "-m", words[0], *flags]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        summary = json.loads((folder / "summary.json").read_text())
    low, high = summary.pop("oracle_gain_ci")
    summary |= {"oracle_gain_low": low, "oracle_gain_high": high}
    return {key: summary[key] for key in COLUMNS if key in summary}


if __name__ == "__main__":
    main()
