"""Held-out oracle during training for every update rule. Each row of curves.csv is one point.

python -m benchmarks.forward.run --rules ddpo nft matching dpo direct --seeds 0 1 2 3 4
python -m benchmarks.forward.run --setting good --rules nft direct --seeds 0 1 2 3 4
python -m benchmarks.forward.tables --write
python -m benchmarks.forward.chart

*few*: three steps without guidance, the packaged recipes. *good*: ten steps, judged with guidance. The base model and
the last LoRA are judged at their own best guidance too, on all held-out prompts. A run is skipped if its rows exist.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.judging import PROMPTS, Judge, run
from benchmarks.results_file import read_rows, write_rows
from benchmarks.trainer_flags import changed
from reward.cli.flags import ArgumentParser

CURVES = Path(__file__).with_name("curves.csv")
COLUMNS = (
    "setting", "rule", "seed", "overrides", "epoch", "reward_queries", "denoiser_evaluations", "train_seconds",
    "reward", "oracle", "best_guidance", "best_reward", "best_oracle", "gain", "gain_low", "gain_high",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A sampler, the guidance scales at which a LoRA is judged, and each rule's differences to its packaged recipe."""

    steps: int
    guidance: tuple[float, ...]
    rules: dict[str, tuple[str, ...]]


SETTINGS = {
    "few": Setting(
        3, (1.0, 1.25, 1.5, 2.0),
        {"ddpo": ("--max_train_seconds", "0", "--save_freq", "20"), "nft": (), "matching": (), "dpo": (), "direct": ()},
    ),
}  # fmt: skip


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=list(SETTINGS), default="few")
    parser.add_argument("--rules", nargs="+", default=["nft"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="for the best guidance; half as many for a point")
    parser.add_argument("overrides", nargs="*", help="after --: flags of the trainer")
    arguments = parser.parse_args()
    setting = SETTINGS[arguments.setting]
    if unknown := sorted(set(arguments.rules) - set(setting.rules)):
        parser.error(f"--rules: expected some of {', '.join(setting.rules)}, got {', '.join(unknown)}.")
    judge = Judge(arguments.prompts, steps=setting.steps, guidance=setting.guidance)
    for seed in arguments.seeds:
        for rule in arguments.rules:
            key = {"setting": arguments.setting, "rule": rule, "seed": str(seed)}
            if any(key.items() <= row.items() for row in read_rows(CURVES)):
                print(f"{arguments.setting} {rule} seed {seed}: already in {CURVES.name}")
                continue
            overrides = changed(setting.rules[rule], arguments.overrides)
            found = run(f"rl.{rule}_train", seed, overrides, judge, final=True)
            key["overrides"] = " ".join(overrides)
            # Read the file again, because another process may have added rows.
            write_rows(CURVES, COLUMNS, [*read_rows(CURVES), *(key | row for row in found)])
            first, last = found[0], found[-1]
            print(
                f"{arguments.setting} {rule} seed {seed}: oracle {first['best_oracle']:.3f} -> "
                f"{last['best_oracle']:.3f} ({last['gain']:+.3f} [{last['gain_low']:+.3f}, {last['gain_high']:+.3f}]), "
                f"{last['reward_queries']} pictures, {last['train_seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
