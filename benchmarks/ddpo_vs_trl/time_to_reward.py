"""Training time until our DDPO reaches TRL 0.23.1's best held-out reward. Results go to time_to_reward.csv.

TRL_0_23_1=FOLDER python -m benchmarks.ddpo_vs_trl.time_to_reward            # first prints how long it will take
TRL_0_23_1=FOLDER python -m benchmarks.ddpo_vs_trl.time_to_reward --dry      # seconds per run, rows in a scratch file

1. Run TRL at every setting of SWEEP on seed 0 and choose the setting with the best held-out reward.
2. Run TRL at that setting and our packaged recipe (tinyworld/ddpo.yaml) on five seeds, in turns.

Both are evaluated by our code: held-out prompts, the same seeds of the pictures, the same number of denoising steps,
each at its own best guidance. Evaluation does not count as training time: LoRAs are saved during training and evaluated
afterwards. A run is skipped if its rows exist.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from benchmarks.ddpo_vs_trl.our_side import TRL_TARGETS, recipe
from benchmarks.results_file import read_rows, write_rows
from reward import HyperAlignReward
from reward.cli.flags import ArgumentParser
from rl.lora.adapter import add_lora, load_lora
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.monitoring.evaluation import Evaluator
from rl.rewards.loading import NonFiniteRewardError, Reward, RewardSet
from tinyworld import weights_path
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import heldout_prompts

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("time_to_reward.csv")
COLUMNS = (
    "side", "setting", "seed", "budget", "seconds", "cpu_seconds", "epochs", "guidance", "reward", "oracle",
)  # fmt: skip
EVAL_GUIDANCE = (1.0, 1.25, 1.5, 2.0)
OURS = "tinyworld/ddpo.yaml"
# As many pictures and optimiser steps per epoch as in our recipe. TRL crashes at guidance <= 1, so 1.01 is used.
TRL_COMMON = {
    "sample_batch_size": 64, "sample_num_batches_per_epoch": 2, "train_batch_size": 64,
    "train_gradient_accumulation_steps": 1, "group_size": 8, "per_prompt_stat_tracking": True,
    "per_prompt_stat_tracking_buffer_size": 16, "per_prompt_stat_tracking_min_count": 8,
}  # fmt: skip
SWEEP = [
    {"sample_num_steps": steps, "sample_guidance_scale": guidance, "train_learning_rate": rate,
     "train_clip_range": clip, "per_prompt_stat_tracking": tracking}
    for steps, guidance, clip, tracking, rates in (
        (3, 1.01, 1e-4, True, (3e-4, 1e-3, 3e-3)),
        (3, 1.01, 1e-2, True, (3e-4, 1e-3, 3e-3)),
        (3, 1.01, 1e-2, False, (1e-3,)),
        (3, 2.0, 1e-2, True, (3e-4, 1e-3)),
        (10, 2.0, 1e-4, True, (3e-4, 1e-3)),
    )
    for rate in rates
]  # fmt: skip


def name_of(setting: dict) -> str:
    """Name of a setting of the sweep in the table."""
    tracked = "per prompt" if setting["per_prompt_stat_tracking"] else "global"
    return (
        f"{setting['sample_num_steps']} steps, guidance {setting['sample_guidance_scale']:g}, "
        f"rate {setting['train_learning_rate']:g}, clip {setting['train_clip_range']:g}, {tracked}"
    )


class Judge:
    """Held-out scores of a saved LoRA, ours or theirs."""

    def __init__(self, prompts: int, steps: int) -> None:
        self.prompts, self.steps = prompts, steps
        reward = HyperAlignReward.from_pretrained(weights_path("hyperalign")).ddpo()
        self.rewards = RewardSet([Reward("hyperalign", reward)])
        own = recipe(0)
        self.shapes = {
            "ours": {"rank": own.lora_rank, "alpha": own.lora_alpha, "targets": own.lora_targets},
            "trl": {"rank": 4, "alpha": 4.0, "targets": TRL_TARGETS},
        }
        self.evaluators: dict[str, Evaluator] = {}

    def scores(self, side: str, lora: Path | None) -> dict:
        """Guidance, reward and oracle at the guidance with the best mean reward.

        Args:
            side: "ours" or "trl".
            lora: folder of the LoRA; None: the base model. If its pictures are not finite, the reward is minus
                infinity.
        """
        evaluator = self._evaluator(side)
        if lora:
            load_lora(evaluator.policy.denoiser, StableDiffusionPipeline, lora)
        base = contextlib.nullcontext() if lora else evaluator.policy.base_model()
        try:
            with base:
                return max(self._sweep(evaluator), key=lambda row: row["reward"])
        except NonFiniteRewardError:
            return {"guidance": EVAL_GUIDANCE[0], "reward": float("-inf"), "oracle": float("nan")}

    def _sweep(self, evaluator: Evaluator) -> list[dict]:
        scores = {guidance: evaluator.scores(self.prompts, guidance) for guidance in EVAL_GUIDANCE}
        return [
            {"guidance": guidance, "reward": found.mean("reward"), "oracle": found.mean("oracle_reward")}
            for guidance, found in scores.items()
        ]

    def _evaluator(self, side: str) -> Evaluator:
        if side not in self.evaluators:
            pipeline = StableDiffusionPipeline.from_pretrained(
                weights_path("stable-diffusion"), safety_checker=None, requires_safety_checker=False
            )
            policy = StableDiffusionPolicy(pipeline, num_steps=self.steps)
            add_lora(pipeline.unet, seed=0, **self.shapes[side])
            witness = RewardSet([Reward("oracle_reward", oracle_reward)])
            # Evenly spread over the held-out prompts, because neighbouring prompts are similar.
            prompts = heldout_prompts()
            prompts = [prompts[i * len(prompts) // self.prompts] for i in range(self.prompts)]
            self.evaluators[side] = Evaluator(policy, self.rewards, witness, prompts, seed=1234, batch_size=64)
        return self.evaluators[side]


class Bench:
    """Runs, evaluates and saves the results. Runs follow one another, so that no two share the machine."""

    def __init__(self, arguments: argparse.Namespace, results: Path, scratch: Path) -> None:
        self.arguments, self.results, self.scratch = arguments, results, scratch
        self.judge = Judge(arguments.prompts, arguments.eval_steps)
        self.base: dict | None = None

    def run(self, side: str, setting: str, settings: dict, seed: int, budget: float) -> None:
        """Train once and add the rows, unless they exist."""
        head = {"side": side, "setting": setting, "seed": seed, "budget": str(budget)}
        if any(all(row[key] == str(value) for key, value in head.items()) for row in read_rows(self.results)):
            return
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            plan = {"seconds": budget, "mark": self.arguments.mark, "seed": seed, "settings": settings}
            path = [str(ROOT)] if side == "ours" else [self.arguments.trl, str(ROOT)]
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "",
            }  # fmt: skip
            command = [sys.executable, "-m", "benchmarks.ddpo_vs_trl.train_run", side, folder, json.dumps(plan)]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            # Ours stops at a non-finite gradient, theirs never does. The LoRAs that were saved before count.
            if done.returncode:
                print(f"{side} {setting} seed {seed}: ended with code {done.returncode}\n{done.stderr[-600:]}")
            self.base = self.base or self.judge.scores("ours", None)
            rows = [head | {"seconds": 0.0, "cpu_seconds": 0.0, "epochs": 0} | self.base]
            for mark in sorted(Path(folder).glob("mark_*/mark.json")):
                rows.append(head | json.loads(mark.read_text()) | self.judge.scores(side, mark.parent))
        rows = [row | {"guidance": str(row["guidance"])} for row in rows]
        write_rows(self.results, COLUMNS, [*read_rows(self.results), *rows])
        best = max(rows, key=lambda row: row["reward"])
        print(
            f"{side:<5} {setting:<58} seed {seed}: base {rows[0]['reward']:.4f}, best {best['reward']:.4f} at "
            f"{best['seconds']:.0f} s (oracle {best['oracle']:.3f}), last {rows[-1]['reward']:.4f}, "
            f"{rows[-1]['epochs']} epochs", flush=True,
        )  # fmt: skip


def best_setting(rows: list[dict], budget: float) -> dict:
    """The setting of SWEEP with the highest held-out reward on seed 0."""
    reached: dict[str, float] = {}
    for row in rows:
        if row["side"] == "trl" and row["seed"] == "0" and row["budget"] == str(budget):
            reached[row["setting"]] = max(reached.get(row["setting"], -1e9), float(row["reward"]))
    return max(SWEEP, key=lambda setting: reached.get(name_of(setting), -1e9))


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", default=os.environ.get("TRL_0_23_1"), help="folder of TRL 0.23.1")
    parser.add_argument("--sweep-seconds", type=float, default=100.0, help="training time per setting of the sweep")
    parser.add_argument("--seconds", type=float, default=200.0, help="training time per run on five seeds")
    parser.add_argument("--mark", type=float, default=20.0, help="training time between two evaluated LoRAs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=128, help="held-out prompts per evaluation")
    parser.add_argument("--eval-steps", type=int, default=3, help="denoising steps in evaluations, for both sides")
    parser.add_argument("--dry", action="store_true", help="two settings, one seed, seconds each, nothing recorded")
    arguments = parser.parse_args()
    if not arguments.trl:
        sys.exit("Expected a folder with TRL 0.23.1 in --trl or TRL_0_23_1, got none.")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        results, sweep = RESULTS, SWEEP
        if arguments.dry:
            arguments.sweep_seconds = arguments.seconds = arguments.mark = 6.0
            arguments.seeds, arguments.prompts = 1, 16
            results, sweep = Path(scratch) / "dry.csv", SWEEP[-2:]
        bench = Bench(arguments, results, Path(scratch))
        announce(bench, len(sweep))
        for setting in sweep:
            bench.run("trl", name_of(setting), TRL_COMMON | setting, 0, arguments.sweep_seconds)
        best = best_setting(read_rows(results), arguments.sweep_seconds)
        for seed in range(arguments.seeds):
            # In turns, so that a slow hour of the machine affects both.
            bench.run("ours", OURS, {}, seed, arguments.seconds)
            bench.run("trl", name_of(best), TRL_COMMON | best, seed, arguments.seconds)
        if arguments.dry:
            from benchmarks.ddpo_vs_trl.tables import reward_table

            print(reward_table(read_rows(results)))


def announce(bench: Bench, settings: int) -> None:
    """Print how long it will take, estimated from one evaluation."""
    started = time.monotonic()
    bench.base = bench.judge.scores("ours", None)
    each, arguments = time.monotonic() - started, bench.arguments
    runs = [arguments.sweep_seconds] * settings + [arguments.seconds] * 2 * arguments.seeds
    evaluations = sum(int(seconds / arguments.mark) + 1 for seconds in runs)
    total = sum(runs) + 12 * len(runs) + evaluations * each
    print(
        f"{len(runs)} runs, {sum(runs) / 60:.0f} min of training; {evaluations} evaluations of {each:.1f} s; together "
        f"about {total / 60:.0f} min, less what {bench.results.name} already has", flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
