"""Does the caption check raise the reward-hacking alarm when DDPO maximises mean redness? One row of alarm.csv per run.

python benchmarks/caption_check/alarm.py --seeds 0 1 2 3 4

The recipe is that of benchmarks/hacking_alarm with an evaluation every 5 epochs. A run ends after `--looks` evaluations
or when all metrics have raised the alarm. Held-out metrics are two measures of the caption check and the oracle. The
row says at which epoch each of them alone raises the alarm. A run is skipped if its row exists.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(ROOT))

from benchmarks.hacking_alarm.run import COMMON, RECIPES  # noqa: E402
from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from benchmarks.trainer_flags import changed  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from rl.monitoring.hacking_alarm import PANEL_FILE  # noqa: E402

RESULTS = Path(__file__).with_name("alarm.csv")
METRICS = ("caption_yes", "caption_coverage", "oracle_reward")
EVERY = 5
COLUMNS = (
    "captioner", "reward", "seed", "looks", "reward_gain", "metric", "alarm_epoch", "alarm_look", "base", "now",
    "change", "low", "high", "seconds",
)  # fmt: skip


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", default="redness", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--looks", type=int, default=3, help="number of evaluations after which a run ends")
    parser.add_argument("--model", default="tinyworld:llava", help='captioner\'s folder, or "perfect"')
    parser.add_argument("--name", default="tinyworld", help="name of the captioner in the table")
    parser.add_argument("overrides", nargs="*", help="after --: flags of rl/ddpo_train.py")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        label = {"captioner": arguments.name, "reward": arguments.reward, "seed": seed}
        known = [row for row in read_rows(RESULTS) if all(row[name] == str(value) for name, value in label.items())]
        if known:
            print(f"{arguments.reward} seed {seed}: already in {RESULTS.name}")
            continue
        rows = [label | row for row in run(
            arguments.reward, seed, arguments.looks, arguments.model, arguments.overrides
        )]  # fmt: skip
        write_rows(RESULTS, COLUMNS, [*read_rows(RESULTS), *rows])
        for row in rows:
            print(json.dumps(row), flush=True)


def run(reward: str, seed: int, looks: int, model: str, overrides: Sequence[str] = ()) -> list[dict]:
    """Train until the panel has `looks` evaluations; returns one row per held-out metric."""
    module = "benchmarks.caption_check.perfect" if model == "perfect" else "attention_refine.caption_check.rewards"
    held_out = [f"{module}:{name}@{model}" for name in METRICS[:-1]]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        looking = ["--eval_freq", str(EVERY), "--eval_rewards", *held_out, "tinyworld.oracle:oracle_reward"]
        flags = changed(["--output_dir", str(folder), "--seed", str(seed)], COMMON, RECIPES[reward], looking, overrides)
        command = [sys.executable, "-m", "rl.ddpo_train", *flags]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        training = subprocess.Popen(command, cwd=ROOT, env=environment)
        try:
            while len(found := read_looks(folder)) < looks and not all(first_alarm(found, name) for name in METRICS):
                if training.poll() is not None:
                    raise RuntimeError(f"Expected {looks} evaluations, got {len(found)}: training ended by itself.")
                time.sleep(1)
        finally:
            if training.poll() is None:
                training.send_signal(signal.SIGTERM)
            training.wait()
    found = found[:looks]
    gain, seconds = found[-1]["changes"]["reward"]["change"], time.perf_counter() - start
    rows = []
    for name in METRICS:
        change = found[-1]["changes"][name]
        fired = first_alarm(found, name)
        rows.append({
            "looks": len(found), "reward_gain": gain, "metric": name,
            "alarm_epoch": found[fired - 1]["epoch"] if fired else "", "alarm_look": fired or "",
            "base": change["base"], "now": change["now"], "change": change["change"], "low": change["interval"][0],
            "high": change["interval"][1], "seconds": seconds,
        })  # fmt: skip
    return rows


def first_alarm(looks: list[dict], metric: str) -> int | None:
    """Number of the evaluation, from 1, at which the metric alone raises the alarm; None: at none."""
    return next((place for place, look in enumerate(looks, start=1) if metric in look["alarming"]), None)


def read_looks(folder: Path) -> list[dict]:
    """The panel's evaluations so far."""
    path = folder / PANEL_FILE
    return json.loads(path.read_text(encoding="utf-8"))["looks"] if path.exists() else []


if __name__ == "__main__":
    main()
