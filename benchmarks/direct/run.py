"""Held-out reward and oracle on the way, for DDPO and every direct method: rows of curves.csv, a point each.

python -m benchmarks.direct.run --methods draft-all refl draft-1 draft-2 draft-lv alignprop ddpo --seeds 0 1 2 3 4
python -m benchmarks.direct.chart

Every run saves its LoRA on the way; they are judged afterwards, which costs no training time: the same held-out prompts
and seeds for all, each at its own best guidance. A run is not repeated when its rows are there.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from diffusers import StableDiffusionPipeline
from tqdm.auto import tqdm

from reward import HyperAlignReward
from rl.checkpoints import list_checkpoints
from rl.evaluation import Evaluator
from rl.file_writing import write_whole
from rl.lora import add_lora, load_lora
from rl.policy import DiffusionPolicy
from rl.reporting import read_metrics
from rl.reward_loading import Reward, RewardSet
from tinyworld import weights_path
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import heldout_prompts

ROOT = Path(__file__).resolve().parents[2]
CURVES = Path(__file__).with_name("curves.csv")
COLUMNS = (
    "method", "seed", "overrides", "epoch", "reward_queries", "unet_evaluations", "train_seconds", "guidance", "reward",
    "oracle",
)  # fmt: skip
# What differs from the packaged recipes, and how often a LoRA is saved.
METHODS = {
    "ddpo": ("rl.ddpo_train", ["--max_train_seconds", "0", "--save_freq", "14"]),
    "draft-all": ("rl.direct_train", ["--method", "draft", "--backprop_steps", "0"]),
    "draft-1": ("rl.direct_train", ["--method", "draft", "--backprop_steps", "1"]),
    "draft-2": ("rl.direct_train", ["--method", "draft", "--backprop_steps", "2"]),
    "draft-lv": ("rl.direct_train", ["--method", "draft-lv"]),
    "refl": ("rl.direct_train", ["--method", "refl"]),
    "alignprop": ("rl.direct_train", ["--method", "alignprop"]),
}
GUIDANCE = (1.0, 1.25, 1.5)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--prompts", type=int, default=257, help="held-out prompts of an evaluation")
    parser.add_argument("overrides", nargs="*", help="after --: flags of the trainer")
    arguments = parser.parse_args()
    judge = Judge(arguments.prompts)
    overrides = " ".join(arguments.overrides)
    for seed in arguments.seeds:
        for method in arguments.methods:
            rows = read_rows()
            if any((row["method"], row["seed"], row["overrides"]) == (method, str(seed), overrides) for row in rows):
                print(f"{method} seed {seed}: already in {CURVES.name}")
                continue
            found = [
                {"method": method, "seed": seed, "overrides": overrides} | row
                for row in run(method, seed, arguments.overrides, judge)
            ]
            write_rows([*rows, *found])
            best = max(found, key=lambda row: row["oracle"])
            print(
                f"{method:10} seed {seed}: oracle {found[0]['oracle']:.3f} -> {found[-1]['oracle']:.3f}, best "
                f"{best['oracle']:.3f} after {best['reward_queries']} queries, {best['train_seconds']:.0f} s",
                flush=True,
            )


class Judge:
    """Held-out scores of a saved LoRA."""

    def __init__(self, prompts: int) -> None:
        self.prompts = prompts
        pipeline = StableDiffusionPipeline.from_pretrained(weights_path("stable-diffusion"), safety_checker=None)
        policy = DiffusionPolicy(pipeline, num_steps=3)
        targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out",
                   "time_emb_proj"]  # fmt: skip
        add_lora(pipeline.unet, rank=8, alpha=8, targets=targets, seed=0)
        reward = HyperAlignReward.from_pretrained(weights_path("hyperalign")).ddpo()
        self.evaluator = Evaluator(
            policy, RewardSet([Reward("hyperalign", reward)]), RewardSet([Reward("oracle_reward", oracle_reward)]),
            heldout_prompts(), seed=1234, batch_size=64,
        )  # fmt: skip
        self.base: dict | None = None

    def scores(self, lora: Path | None) -> dict:
        """Guidance, reward and oracle at the guidance that is best by the oracle; None: the base model."""
        if lora:
            load_lora(self.evaluator.policy.unet, StableDiffusionPipeline, lora)
            return self._best()
        if self.base is None:
            with self.evaluator.policy.base_model():
                self.base = self._best()
        return self.base

    def _best(self) -> dict:
        found = []
        for guidance in GUIDANCE:
            scores = self.evaluator.scores(self.prompts, guidance)
            found.append(
                {"guidance": guidance, "reward": scores.mean("reward"), "oracle": scores.mean("oracle_reward")}
            )
        return max(found, key=lambda row: row["oracle"])


def run(method: str, seed: int, overrides: list[str], judge: Judge) -> list[dict]:
    """Trains once; a row for the base model and for every saved LoRA."""
    module, settings = METHODS[method]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        command = [sys.executable, "-m", module, "--output_dir", str(folder), "--seed", str(seed)]
        command += ["--eval_at_end", "false", "--log_with", "none", "--num_checkpoint_limit", "1000"]
        command += ["--save_freq", "5", *settings, *overrides]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        metrics = read_metrics(folder)
        rows = [{"epoch": 0, "reward_queries": 0, "unet_evaluations": 0, "train_seconds": 0.0} | judge.scores(None)]
        for checkpoint in tqdm(list_checkpoints(folder), desc=f"{method} seed {seed}", unit="LoRA"):
            epoch = int(checkpoint.name.rpartition("_")[2])
            past = [row for step, row in metrics.items() if step <= epoch]
            costs = {name: int(sum(row[name] for row in past)) for name in ("reward_queries", "unet_evaluations")}
            seconds = {"train_seconds": metrics[epoch]["seconds"]}
            rows.append({"epoch": epoch} | costs | seconds | judge.scores(checkpoint))
    return rows


def read_rows() -> list[dict]:
    """The rows of curves.csv."""
    if not CURVES.exists():
        return []
    with CURVES.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(rows: list[dict]) -> None:
    """Writes curves.csv whole."""

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})

    write_whole(CURVES, write)


if __name__ == "__main__":
    main()
