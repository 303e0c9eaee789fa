"""Held-out reward and oracle during training, for DDPO and every direct method. Each row of curves.csv is one point.

python -m benchmarks.direct.run --methods draft-all refl draft-1 draft-2 draft-lv alignprop ddpo --seeds 0 1 2 3 4
python -m benchmarks.direct.chart

Every run saves its LoRA several times. They are evaluated after training, so evaluation takes no training time. All use
the same held-out prompts and seeds and the training guidance. The base model and the last LoRA of the finalists are
also evaluated at their own best guidance. A run is skipped if its rows exist.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from diffusers import StableDiffusionPipeline
from tqdm.auto import tqdm

from benchmarks.results_file import read_rows, write_rows
from benchmarks.trainer_flags import changed
from reward import HyperAlignReward
from reward.cli.flags import ArgumentParser
from rl.lora.adapter import add_lora, load_lora
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.monitoring.evaluation import Evaluator
from rl.rewards.loading import Reward, RewardSet
from rl.runs.checkpoints import list_checkpoints
from rl.runs.metrics_file import read_metrics
from tinyworld import weights_path
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import heldout_prompts

ROOT = Path(__file__).resolve().parents[2]
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
TRAINED_GUIDANCE = 1.0
PROMPTS = 514
GUIDANCE = (1.0, 1.25, 1.5)


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


class Judge:
    """Held-out scores of a saved LoRA."""

    def __init__(self, prompts: int) -> None:
        self.prompts = prompts
        pipeline = StableDiffusionPipeline.from_pretrained(weights_path("stable-diffusion"), safety_checker=None)
        policy = StableDiffusionPolicy(pipeline, num_steps=3)
        targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out",
                   "time_emb_proj"]  # fmt: skip
        add_lora(pipeline.unet, rank=8, alpha=8, targets=targets, seed=0)
        reward = HyperAlignReward.from_pretrained(weights_path("hyperalign")).ddpo()
        self.evaluator = Evaluator(
            policy, RewardSet([Reward("hyperalign", reward)]), RewardSet([Reward("oracle_reward", oracle_reward)]),
            heldout_prompts(), seed=1234, batch_size=64,
        )  # fmt: skip
        self._base: dict | None = None

    def point(self, lora: Path) -> dict[str, float]:
        """Reward and oracle of a LoRA at the training guidance."""
        load_lora(self.evaluator.policy.denoiser, StableDiffusionPipeline, lora)
        return self._point()

    def best(self, lora: Path) -> dict[str, float]:
        """Guidance, reward and oracle of a LoRA at its best guidance by the oracle, on twice as many prompts."""
        load_lora(self.evaluator.policy.denoiser, StableDiffusionPipeline, lora)
        return self._best()

    def base(self) -> dict[str, float]:
        """The results of `point` and `best` for the base model."""
        if self._base is None:
            with self.evaluator.policy.base_model():
                self._base = self._point() | self._best()
        return self._base

    def _point(self) -> dict[str, float]:
        scores = self.evaluator.scores(self.prompts // 2, TRAINED_GUIDANCE)
        return {"reward": scores.mean("reward"), "oracle": scores.mean("oracle_reward")}

    def _best(self) -> dict[str, float]:
        found = {guidance: self.evaluator.scores(self.prompts, guidance) for guidance in GUIDANCE}
        best = max(found, key=lambda guidance: found[guidance].mean("oracle_reward"))
        reward, oracle = (found[best].mean(name) for name in ("reward", "oracle_reward"))
        return {"best_guidance": best, "best_reward": reward, "best_oracle": oracle}


def run(module: str, seed: int, overrides: list[str], judge: Judge, *, final: bool) -> list[dict]:
    """Train once; returns a row for the base model and for every saved LoRA, the last also at its best guidance."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        train(module, folder, seed, overrides)
        rows = points(folder, judge)
        if final:
            rows[-1] |= judge.best(list_checkpoints(folder)[-1])
    return rows


def train(module: str, folder: Path, seed: int, overrides: list[str]) -> None:
    """Run an entry script and keep every saved LoRA."""
    flags = ["--output_dir", str(folder), "--seed", str(seed)]
    flags += ["--eval_at_end", "false", "--log_with", "none", "--num_checkpoint_limit", "1000"]
    command = [sys.executable, "-m", module, *changed(flags, overrides)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def points(folder: Path, judge: Judge) -> list[dict]:
    """A row for the base model and for every saved LoRA of a run."""
    metrics = read_metrics(folder)
    rows = [{"epoch": 0, "reward_queries": 0, "denoiser_evaluations": 0, "train_seconds": 0.0} | judge.base()]
    for checkpoint in tqdm(list_checkpoints(folder), desc="judging", unit="LoRA"):
        epoch = int(checkpoint.name.rpartition("_")[2])
        past = [row for step, row in metrics.items() if step <= epoch]
        costs = {name: int(sum(row[name] for row in past)) for name in ("reward_queries", "denoiser_evaluations")}
        seconds = {"train_seconds": metrics[epoch]["seconds"]}
        rows.append({"epoch": epoch} | costs | seconds | judge.point(checkpoint))
    return rows


if __name__ == "__main__":
    main()
