"""Does the alarm fire for a hacked reward and stay silent in the normal demo? One row of results.csv per run.

python benchmarks/hacking_alarm/run.py --name redness --seeds 0 1 2 3 4
python benchmarks/hacking_alarm/run.py --name demo --seeds 0 1 2 3 4

Both use DDPO's packaged recipe with an evaluation every few epochs. `redness` has a reward that ignores the prompt, and
fewer epochs. Flags after ``--`` are passed to rl/ddpo_train.py. A run is skipped if its row exists.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(ROOT))

from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from benchmarks.trainer_flags import changed  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
# Only the number of epochs ends a run, not the time. The comparison at the end is turned off: it selects the best
# guidance scales, which the alarm does not use.
COMMON = ["--max_train_seconds", "0", "--eval_at_end", "false", "--log_with", "none", "--save_freq", "1000"]
RECIPES = {
    "redness": [
        "--rewards", "benchmarks.hacking_alarm.redness:mean_redness", "--num_epochs", "50", "--eval_freq", "5",
    ],
    "demo": ["--num_epochs", "140", "--eval_freq", "10"],
}  # fmt: skip
COLUMNS = (
    "name", "seed", "overrides", "epochs", "alarm", "metrics", "reward_base", "reward_lora", "reward_gain",
    "oracle_base", "oracle_lora", "oracle_change", "oracle_change_low", "oracle_change_high", "seconds",
)  # fmt: skip


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, help="keep the run folders here; default: they are deleted")
    parser.add_argument("overrides", nargs="*", help="after --: flags of rl/ddpo_train.py")
    arguments = parser.parse_args()
    overrides = " ".join(arguments.overrides)
    for seed in arguments.seeds:
        known = [(row["name"], row["seed"], row["overrides"]) for row in read_rows(RESULTS)]
        if (arguments.name, str(seed), overrides) in known:
            print(f"{arguments.name} seed {seed}: already in {RESULTS.name}")
            continue
        row = {"name": arguments.name, "seed": seed, "overrides": overrides}
        row |= run(arguments.name, seed, arguments.overrides, arguments.keep)
        write_rows(RESULTS, COLUMNS, [*read_rows(RESULTS), row])
        print(json.dumps(row, indent=2), flush=True)


def run(name: str, seed: int, overrides: list[str], keep: Path | None) -> dict:
    """Train once; returns the columns of the alarm and of the last evaluation."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = (keep or Path(scratch)) / f"{name}_{seed}"
        flags = changed(["--output_dir", str(folder), "--seed", str(seed)], COMMON, RECIPES[name], overrides)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        subprocess.run([sys.executable, "-m", "rl.ddpo_train", *flags], cwd=ROOT, env=environment, check=True)
        summary = json.loads((folder / "summary.json").read_text())
        panel = json.loads((folder / "hacking_panel.json").read_text())
    reward, oracle = (panel["looks"][-1]["changes"][column] for column in ("reward", "oracle_reward"))
    first = summary["alarms"][0] if summary["alarms"] else {"epoch": "", "metrics": []}
    return {
        "epochs": summary["epochs"],
        "alarm": first["epoch"],
        "metrics": " ".join(first["metrics"]),
        "reward_base": reward["base"],
        "reward_lora": reward["now"],
        "reward_gain": reward["change"],
        "oracle_base": oracle["base"],
        "oracle_lora": oracle["now"],
        "oracle_change": oracle["change"],
        "oracle_change_low": oracle["interval"][0],
        "oracle_change_high": oracle["interval"][1],
        "seconds": summary["seconds"],
    }


if __name__ == "__main__":
    main()
