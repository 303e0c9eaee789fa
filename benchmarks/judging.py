"""Train a recipe, and judge every LoRA that it saves on held-out prompts: what the comparisons of update rules share.

They are judged after training, so that evaluation takes no training time. All use the same prompts and seeds.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from diffusers import StableDiffusionPipeline
from tqdm.auto import tqdm

from benchmarks.trainer_flags import changed
from reward import HyperAlignReward
from rl.lora.adapter import add_lora, load_lora
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.monitoring.bootstrap import bootstrap_interval
from rl.monitoring.evaluation import Evaluator, Scores
from rl.rewards.loading import Reward, RewardSet
from rl.runs.checkpoints import list_checkpoints
from rl.runs.metrics_file import read_metrics
from tinyworld import weights_path
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import heldout_prompts

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = 514
TRAINED_GUIDANCE = 1.0
GUIDANCE = (1.0, 1.25, 1.5)


class Judge:
    """Held-out scores of a saved LoRA.

    Args:
        prompts: for the best guidance; half as many for a point of the curve.
        steps: of the sampler.
        trained_guidance: of the curve's points.
        guidance: to choose the best of.
    """

    def __init__(
        self, prompts: int, *, steps: int = 3, trained_guidance: float = TRAINED_GUIDANCE,
        guidance: Sequence[float] = GUIDANCE,
    ) -> None:
        self.prompts, self.trained_guidance, self.guidance = prompts, trained_guidance, guidance
        pipeline = StableDiffusionPipeline.from_pretrained(weights_path("stable-diffusion"), safety_checker=None)
        policy = StableDiffusionPolicy(pipeline, num_steps=steps)
        targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out",
                   "time_emb_proj"]  # fmt: skip
        add_lora(pipeline.unet, rank=8, alpha=8, targets=targets, seed=0)
        reward = HyperAlignReward.from_pretrained(weights_path("hyperalign")).ddpo()
        self.evaluator = Evaluator(
            policy, RewardSet([Reward("hyperalign", reward)]), RewardSet([Reward("oracle_reward", oracle_reward)]),
            heldout_prompts(), seed=1234, batch_size=64,
        )  # fmt: skip
        self._base: dict | None = None
        self._base_oracle: np.ndarray | None = None

    def point(self, lora: Path) -> dict[str, float]:
        """Reward and oracle of a LoRA at the training guidance."""
        load_lora(self.evaluator.policy.denoiser, StableDiffusionPipeline, lora)
        return self._point()

    def best(self, lora: Path | None) -> dict[str, float]:
        """Guidance, reward and oracle of a LoRA at its best guidance by the oracle, on twice as many prompts.

        Also its gain over the base model at its own best guidance, with the 95 % interval over prompts. None: the
        weights that the policy has.
        """
        self.base()
        if lora:
            load_lora(self.evaluator.policy.denoiser, StableDiffusionPipeline, lora)
        best, scores = self._best()
        gain = scores.columns["oracle_reward"] - self._base_oracle
        low, high = bootstrap_interval(gain, [self.evaluator.prompt(i) for i in range(len(gain))])
        return best | {"gain": float(gain.mean()), "gain_low": low, "gain_high": high}

    def base(self) -> dict[str, float]:
        """The results of `point` and `best` for the base model."""
        if self._base is None:
            with self.evaluator.policy.base_model():
                best, scores = self._best()
                self._base, self._base_oracle = self._point() | best, scores.columns["oracle_reward"]
        return self._base

    def _point(self) -> dict[str, float]:
        scores = self.evaluator.scores(self.prompts // 2, self.trained_guidance)
        return {"reward": scores.mean("reward"), "oracle": scores.mean("oracle_reward")}

    def _best(self) -> tuple[dict[str, float], Scores]:
        found = {guidance: self.evaluator.scores(self.prompts, guidance) for guidance in self.guidance}
        best = max(found, key=lambda guidance: found[guidance].mean("oracle_reward"))
        reward, oracle = (found[best].mean(name) for name in ("reward", "oracle_reward"))
        return {"best_guidance": best, "best_reward": reward, "best_oracle": oracle}, found[best]


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
