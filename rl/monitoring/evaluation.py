"""Compare LoRA and base model on the same prompts and seeds, each at its own best guidance scale."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reward.files.writing import write_text
from rl.lora.adapter import scaled_lora
from rl.models.policy import Policy, sample_seed
from rl.monitoring.bootstrap import bootstrap_interval
from rl.rewards.loading import RewardSet
from rl.runs.pictures import save_picture


@dataclass
class Scores:
    """Scores, one picture per prompt. Column `reward` is the trained sum; the others are the held-out rewards."""

    columns: dict[str, np.ndarray]

    def mean(self, name: str) -> float:
        """Mean over prompts."""
        return float(self.columns[name].mean())


class Evaluator:
    """Scores a policy on fixed prompts and seeds.

    Args:
        policy: the policy, with its LoRA.
        rewards: the training rewards.
        eval_rewards: held-out rewards; the first one selects the best guidance scale for base and LoRA.
        prompts: evaluation prompts, used in order; if more are needed, they start over.
        seed: of the pictures; picture i always has the same noise.
        batch_size: pictures per batch.
        process: (index of this process, number of processes).
        gather: collects the lists of scores of all processes; None: one process.

    Raises:
        ValueError: a held-out reward is named "reward".
    """

    def __init__(
        self,
        policy: Policy,
        rewards: RewardSet,
        eval_rewards: RewardSet,
        prompts: Sequence[str],
        *,
        seed: int,
        batch_size: int,
        process: tuple[int, int] = (0, 1),
        gather: Callable[[list], list] | None = None,
    ) -> None:
        if "reward" in eval_rewards.names:
            raise ValueError(
                "eval_rewards: expected other names than 'reward', which is the name of the trained sum. Rename the "
                "function."
            )
        self.policy, self.rewards, self.eval_rewards = policy, rewards, eval_rewards
        self.prompts, self.seed, self.batch_size = list(prompts), seed, batch_size
        self.process, self.gather = process, gather or (lambda rows: rows)

    @property
    def metric(self) -> str:
        """The column that selects the best: the first held-out reward, or `reward` if there is none."""
        return self.eval_rewards.names[0] if self.eval_rewards.names else "reward"

    def prompt(self, index: int) -> str:
        """Prompt of picture `index`."""
        return self.prompts[index % len(self.prompts)]

    def pictures(self, indices: Sequence[int], guidance_scale: float) -> torch.Tensor:
        """Sample pictures (N,3,H,W) in [0,1] with the current weights."""
        prompts = [self.prompt(i) for i in indices]
        seeds = [sample_seed(self.seed, i) for i in indices]
        latents = self.policy.rollout(prompts, seeds, guidance_scale, log_probs=False).latents[-1]
        with torch.no_grad():
            return self.policy.decode(latents)

    def score(self, images: torch.Tensor, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Scores (N,) of pictures `indices`, one column per reward; `reward` is the trained sum."""
        prompts = [self.prompt(i) for i in indices]
        with torch.no_grad():
            return {"reward": self.rewards(images, prompts)[0]} | self.eval_rewards(images, prompts)[1]

    def scores(self, count: int, guidance_scale: float, progress: Callable[[int], Any] | None = None) -> Scores:
        """Scores of pictures 0 .. count - 1."""
        rank, world = self.process
        own = range(rank, count, world)
        rows = []
        for start in range(0, len(own), self.batch_size):
            indices = own[start : start + self.batch_size]
            columns = self.score(self.pictures(indices, guidance_scale), indices)
            stacked = torch.stack(list(columns.values()), dim=1).double().tolist()
            rows += [[index, *values] for index, values in zip(indices, stacked, strict=True)]
            if progress:
                progress(len(indices))
        rows = np.array(sorted(self.gather(rows)))
        return Scores({name: rows[:, i + 1] for i, name in enumerate(["reward", *self.eval_rewards.names])})

    def compare(
        self,
        count: int,
        guidance_scales: Sequence[float],
        progress: Callable[[int], Any] | None = None,
        lora_scales: Sequence[float] = (),
    ) -> "Comparison":
        """Score base and LoRA at every guidance scale, and the LoRA at its best one also with other strengths.

        Args:
            count: pictures per side and scale.
            guidance_scales: to try on both sides.
            progress: called with the number of pictures after each batch.
            lora_scales: strengths of the LoRA to try; 1 is always included.
        """
        lora = {g: self.scores(count, g, progress) for g in guidance_scales}
        with self.policy.base_model():
            base = {g: self.scores(count, g, progress) for g in guidance_scales}
        comparison = Comparison(base, lora, self.metric, [self.prompt(i) for i in range(count)])
        for scale in sorted(set(lora_scales) - {1.0}):
            with scaled_lora(self.policy.denoiser, scale):
                comparison.scaled[scale] = self.scores(count, comparison.guidance_lora, progress)
        return comparison


@dataclass
class Comparison:
    """Scores of base and LoRA by guidance scale. `scaled`: the LoRA's scores by strength, for strengths other than 1.

    Each side is judged at its own best guidance scale by `metric`. The scale is chosen on the reported pictures, so the
    numbers are slightly too good, but equally so for both sides.
    """

    base: dict[float, Scores]
    lora: dict[float, Scores]
    metric: str
    prompts: list[str]
    scaled: dict[float, Scores] = field(default_factory=dict)

    @property
    def guidance_base(self) -> float:
        """The base model's best guidance scale."""
        return max(self.base, key=lambda g: self.base[g].mean(self.metric))

    @property
    def guidance_lora(self) -> float:
        """The LoRA's best guidance scale."""
        return max(self.lora, key=lambda g: self.lora[g].mean(self.metric))

    def sweep(self) -> list[dict[str, Any]]:
        """One row per side and guidance scale."""
        return [
            {"model": model, "guidance": g} | {name: scores.mean(name) for name in scores.columns}
            for model, sides in (("base", self.base), ("lora", self.lora))
            for g, scores in sides.items()
        ]

    def lora_scales(self) -> list[dict[str, Any]]:
        """One row per strength of the LoRA, all at its best guidance; empty if only 1 was tried."""
        if not self.scaled:
            return []
        rows = self.scaled | {1.0: self.lora[self.guidance_lora]}
        return [
            {"scale": scale} | {name: scores.mean(name) for name in scores.columns}
            for scale, scores in sorted(rows.items())
        ]

    def summary(self) -> dict[str, Any]:
        """For each column: mean of both sides, mean paired gain, and its 95 % bootstrap interval over prompts.

        A held-out reward named `xyz_reward` has the keys xyz_base, xyz_lora, xyz_gain, xyz_gain_ci.
        """
        base, lora = self.base[self.guidance_base], self.lora[self.guidance_lora]
        summary: dict[str, Any] = {
            "guidance_base": self.guidance_base,
            "guidance_lora": self.guidance_lora,
            "n_prompts": len(self.prompts),
        }
        for name in base.columns:
            short = short_name(name)
            gain = lora.columns[name] - base.columns[name]
            summary |= {
                f"{short}_base": base.mean(name),
                f"{short}_lora": lora.mean(name),
                f"{short}_gain": float(gain.mean()),
                f"{short}_gain_ci": bootstrap_interval(gain, self.prompts),
            }
        return summary

    def table(self) -> str:
        """The summary as lines of text, one per column of scores."""
        summary = self.summary()
        lines = [
            f"{self.base_and_lora()} on {len(self.prompts)} pictures, same prompts and seeds",
            f"{'':<16}{'base':>9}{'LoRA':>9}{'gain':>9}   95 % interval over prompts",
        ]
        for column in self.base[self.guidance_base].columns:
            name = short_name(column)
            low, high = summary[f"{name}_gain_ci"]
            numbers = "".join(f"{summary[f'{name}_{part}']:>9.3f}" for part in ("base", "lora", "gain"))
            lines.append(f"{name:<16}{numbers}   [{low:+.3f}, {high:+.3f}]")
        for row in self.lora_scales():
            values = "  ".join(f"{short_name(name)} {value:.3f}" for name, value in row.items() if name != "scale")
            lines.append(f"LoRA at strength {row['scale']:<5g} {values}")
        return "\n".join(lines)

    def base_and_lora(self) -> str:
        """Both sides with their guidance scales, for the table's head."""
        return f"base (guidance {self.guidance_base:g}) and LoRA (guidance {self.guidance_lora:g})"


def short_name(name: str) -> str:
    """`oracle_reward` -> `oracle`; other names unchanged."""
    return name.removesuffix("_reward") or name


def write_evaluation(run: Path, evaluator: Evaluator, comparison: Comparison, examples: int = 12) -> None:
    """Write `evaluation.json`, and example pictures of both sides to `samples/evaluation/`.

    Args:
        run: the run folder.
        evaluator: samples the pictures again, with the same prompts and seeds.
        comparison: the scores.
        examples: number of example pictures per side.
    """
    count = min(examples, len(comparison.prompts))
    # Evenly spread over the evaluation, because neighbouring prompts are often similar.
    indices = np.linspace(0, len(comparison.prompts) - 1, count).astype(int).tolist()
    folder = run / "samples" / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    sides = {"lora": (comparison.lora[comparison.guidance_lora], comparison.guidance_lora)}
    pictures = {"lora": evaluator.pictures(indices, comparison.guidance_lora)}
    with evaluator.policy.base_model():
        sides["base"] = (comparison.base[comparison.guidance_base], comparison.guidance_base)
        pictures["base"] = evaluator.pictures(indices, comparison.guidance_base)
    rows = []
    for place, index in enumerate(indices):
        row: dict[str, Any] = {"prompt": comparison.prompts[index], "seed": index}
        for side in ("base", "lora"):
            name = f"{side}_{place:03d}.png"
            save_picture(pictures[side][place], folder / name)
            row[side] = f"samples/evaluation/{name}"
            for column, values in sides[side][0].columns.items():
                row[f"{short_name(column)}_{side}"] = float(values[index])
        rows.append(row)
    record = {
        "metric": comparison.metric,
        "guidance_base": comparison.guidance_base,
        "guidance_lora": comparison.guidance_lora,
        "sweep": comparison.sweep(),
        "lora_scales": comparison.lora_scales(),
        "examples": rows,
    }
    write_text(run / "evaluation.json", json.dumps(record, indent=2))
