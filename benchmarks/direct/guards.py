"""The effect of each guard against reward hacking in an over-optimised run. Results go to guards.csv.

python -m benchmarks.direct.guards --seeds 2 3

The over-optimised run is the packaged recipe without augmentation and with a constant learning rate. Each guard is
added to it alone. Evaluation is on held-out prompts at the training guidance.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.judging import PROMPTS, Judge, points, train
from benchmarks.results_file import read_rows, write_rows
from benchmarks.trainer_flags import changed
from reward.cli.flags import ArgumentParser
from rl.lora.adapter import scaled_lora
from rl.runs.checkpoints import list_checkpoints

RESULTS = Path(__file__).with_name("guards.csv")
COLUMNS = ("guard", "seed", "epoch", "reward_queries", "train_seconds", "reward", "oracle")
PUSHED = ["--reward_augmentation", "0", "--lr_schedule", "constant", "--save_freq", "14"]
ENSEMBLE = ["hyperalign:tinyworld:hyperalign=1.0", "benchmarks.direct.cosine_reward:cosine_reward=1.0"]
GUARDS = {
    "none": [],
    "reward_augmentation 0.15": ["--reward_augmentation", "0.15"],
    "train_kl_weight 0.03": ["--train_kl_weight", "0.03"],
    "reward_aggregation min, with the cosine": ["--rewards", *ENSEMBLE, "--reward_aggregation", "min"],
    "early_stop_patience 2": [
        "--eval_freq", "5", "--eval_freq_num_prompts", "64", "--eval_freq_group_size", "1", "--early_stop_patience", "2"
    ],
}  # fmt: skip
STRENGTHS = (0.25, 0.5, 0.75)


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2])
    parser.add_argument("--guards", nargs="+", choices=list(GUARDS), default=list(GUARDS))
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="held-out prompts, see benchmarks.judging")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the table to add to")
    parser.add_argument("overrides", nargs="*", help="after --: flags of rl/direct_train.py")
    arguments = parser.parse_args()
    judge = Judge(arguments.prompts)
    for seed in arguments.seeds:
        for guard in arguments.guards:
            rows = read_rows(arguments.results)
            if any((row["guard"], row["seed"]) == (guard, str(seed)) for row in rows):
                print(f"{guard} seed {seed}: already in {arguments.results.name}")
                continue
            found = [{"guard": guard, "seed": seed} | row for row in run(guard, seed, judge, arguments.overrides)]
            write_rows(arguments.results, COLUMNS, [*read_rows(arguments.results), *found])
            print(f"{guard} seed {seed}: oracle " + " ".join(f"{row['oracle']:.3f}" for row in found), flush=True)


def run(guard: str, seed: int, judge: Judge, overrides: Sequence[str] = ()) -> list[dict]:
    """Train once; returns a row for every saved LoRA, and for the LoRA that the guard selects at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        train("rl.direct_train", folder, seed, changed(PUSHED, GUARDS[guard], overrides))
        rows = points(folder, judge)
        if guard == "none":
            last = list_checkpoints(folder)[-1]
            for strength in STRENGTHS:
                rows.append(rows[-1] | {"guard": f"LoRA at strength {strength}"} | strong(judge, last, strength))
        if guard.startswith("early_stop"):
            rows.append(rows[-1] | {"guard": f"{guard}, weights kept"} | judge.point(folder))
    return rows


def strong(judge: Judge, lora: Path, strength: float) -> dict[str, float]:
    """Scores of a LoRA at a strength. Loading the LoRA does not change the strength."""
    with scaled_lora(judge.evaluator.policy.denoiser, strength):
        return judge.point(lora)


if __name__ == "__main__":
    main()
