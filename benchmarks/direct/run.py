"""Held-out reward and oracle during training, for DDPO and every direct method. Each row of curves.csv is one point.

python -m benchmarks.direct.run --methods draft-all refl draft-1 draft-2 draft-lv alignprop ddpo --seeds 0 1 2 3 4
python -m benchmarks.direct.chart

Every run saves its LoRA several times. They are evaluated after training, so evaluation takes no training time. All use
the same held-out prompts and seeds and the training guidance. The base model and the last LoRA of the finalists are
also evaluated at their own best guidance. A run is skipped if its rows exist.
"""

import argparse
from pathlib import Path

from benchmarks.judging import PROMPTS, Judge, run
from benchmarks.results_file import read_rows, write_rows
from benchmarks.trainer_flags import changed
from reward.cli.flags import ArgumentParser

CURVES = Path(__file__).with_name("curves.csv")
COLUMNS = (
    "name", "method", "seed", "overrides", "epoch", "reward_queries", "denoiser_evaluations", "train_seconds", "reward",
    "oracle", "best_guidance", "best_reward", "best_oracle",
)  # fmt: skip
# Differences to the packaged recipes.
METHODS = {
    "ddpo": ("rl.ddpo_train", ["--max_train_seconds", "0", "--save_freq", "28"]),
    "draft-all": ("rl.direct_train", ["--method", "draft", "--backprop_steps", "0"]),
    "draft-1": ("rl.direct_train", ["--method", "draft", "--backprop_steps", "1"]),
    "draft-2": ("rl.direct_train", ["--method", "draft", "--backprop_steps", "2"]),
    "draft-lv": ("rl.direct_train", ["--method", "draft-lv"]),
    "refl": ("rl.direct_train", ["--method", "refl"]),
    "alignprop": ("rl.direct_train", ["--method", "alignprop"]),
}
FINALISTS = ("ddpo", "draft-2")


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="default", help="name of the settings after -- in the table")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--save-freq", default="14", help="epochs between two points of a direct method")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="for the best guidance; half as many for a point")
    parser.add_argument("--curves", type=Path, default=CURVES, help="the table to add to")
    parser.add_argument("overrides", nargs="*", help="after --: flags of the trainer")
    arguments = parser.parse_args()
    judge = Judge(arguments.prompts)
    for seed in arguments.seeds:
        for method in arguments.methods:
            key = {"name": arguments.name, "method": method, "seed": str(seed)}
            if any(key.items() <= row.items() for row in read_rows(arguments.curves)):
                print(f"{arguments.name} {method} seed {seed}: already in {arguments.curves.name}")
                continue
            overrides = changed(["--save_freq", arguments.save_freq], METHODS[method][1], arguments.overrides)
            found = run(METHODS[method][0], seed, overrides, judge, final=method in FINALISTS)
            common = key | {"overrides": " ".join(arguments.overrides)}
            # Read the file again, because another process may have added rows.
            rows = read_rows(arguments.curves)
            write_rows(arguments.curves, COLUMNS, [*rows, *(common | row for row in found)])
            first, last = found[0], found[-1]
            print(
                f"{arguments.name} {method} seed {seed}: oracle {first['oracle']:.3f} -> {last['oracle']:.3f}, "
                f"{last['reward_queries']} queries, {last['train_seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
