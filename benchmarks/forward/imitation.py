"""The best of eight as a teacher: fine-tune on pictures of the base model that a reward chose. Results: imitation.csv.

python -m benchmarks.forward.imitation --choose random hyperalign oracle --seeds 0 1 2 3 4

The good sampler, ten steps with guidance 2, draws eight pictures of every training prompt. One of them is kept: the
best by the reward, by the oracle, or the first (what distilling the guidance gives alone). A LoRA learns them by the
loss that the base model was trained with, the prompt left out of every tenth. Base and LoRA are judged at ten steps,
each at its own best guidance.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.judging import PROMPTS, Judge
from benchmarks.results_file import read_rows, write_rows
from reward.cli.flags import ArgumentParser
from rl.models.policy import sample_seed
from rl.updates.forward import squared_error
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import train_prompts

RESULTS = Path(__file__).with_name("imitation.csv")
COLUMNS = (
    "choose", "seed", "pictures", "steps", "seconds", "oracle_first", "oracle_kept", "base_guidance", "base_oracle",
    "best_guidance", "best_reward", "best_oracle", "gain", "gain_low", "gain_high", "oracle_without_guidance",
)  # fmt: skip
STEPS, GUIDANCE, GROUP, BATCH = 10, 2.0, 8, 32
JUDGED = (1.0, 1.25, 1.5, 2.0, 2.5)


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", nargs="+", choices=["random", "hyperalign", "oracle"], default=["hyperalign"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="held out, to judge")
    parser.add_argument("--train-prompts", type=int, default=len(train_prompts()))
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        judge = Judge(arguments.prompts, steps=STEPS, trained_guidance=GUIDANCE, guidance=JUDGED)
        pool = None
        for choose in arguments.choose:
            key = {"choose": choose, "seed": str(seed)}
            if any(key.items() <= row.items() for row in read_rows(RESULTS)):
                print(f"{choose} seed {seed}: already in {RESULTS.name}")
                continue
            pool = pool or Pool(judge, train_prompts()[: arguments.train_prompts], seed)
            row = key | pool.kept(choose) | imitate(judge, pool, choose, seed, arguments)
            write_rows(RESULTS, COLUMNS, [*read_rows(RESULTS), row])
            print(" ".join(f"{name} {value}" for name, value in row.items()), flush=True)


class Pool:
    """Latents (P,8,C,h,w) of P prompts' pictures by the base model, and their scores (P,8) by reward and by oracle."""

    def __init__(self, judge: Judge, prompts: list[str], seed: int) -> None:
        self.prompts = prompts
        texts = [prompt for prompt in prompts for _ in range(GROUP)]
        policy, latents, scores = judge.evaluator.policy, [], {"hyperalign": [], "oracle": []}
        with policy.base_model(), torch.no_grad():
            for start in tqdm(range(0, len(texts), 64), desc="sampling", unit="batch"):
                part = texts[start : start + 64]
                seeds = [sample_seed(seed, 7, start + i) for i in range(len(part))]
                drawn = policy.rollout(part, seeds, GUIDANCE, log_probs=False).latents[-1]
                pictures = policy.decode(drawn)
                latents.append(drawn)
                scores["hyperalign"].append(judge.evaluator.rewards(pictures, part)[0])
                scores["oracle"].append(oracle_reward(pictures, part)[0])
        self.latents = torch.cat(latents).unflatten(0, (-1, GROUP))
        self.scores = {name: torch.cat(parts).view(-1, GROUP) for name, parts in scores.items()}

    def places(self, choose: str) -> torch.Tensor:
        """Index (P,) of each prompt's picture to keep."""
        return torch.zeros(len(self.prompts), dtype=torch.long) if choose == "random" else self.scores[choose].argmax(1)

    def kept(self, choose: str) -> dict[str, float]:
        """Mean oracle score of the first pictures and of those kept."""
        oracle = self.scores["oracle"]
        kept = oracle.gather(1, self.places(choose)[:, None]).mean().item()
        return {"pictures": oracle.numel(), "oracle_first": oracle[:, 0].mean().item(), "oracle_kept": kept}


def imitate(judge: Judge, pool: Pool, choose: str, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Train a LoRA on the kept pictures from its start, and judge it."""
    policy = judge.evaluator.policy
    lora = [parameter for parameter in policy.denoiser.parameters() if parameter.requires_grad]
    reset(policy.denoiser, seed)
    clean = pool.latents[torch.arange(len(pool.prompts)), pool.places(choose)]
    optimizer = torch.optim.AdamW(lora, lr=arguments.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.steps)
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    started = time.monotonic()
    for _ in tqdm(range(arguments.steps), desc=f"imitating {choose}", unit="step", mininterval=10):
        rows = random.integers(len(clean), size=BATCH)
        texts = ["" if random.random() < 0.1 else pool.prompts[row] for row in rows]
        levels = policy.level_at(torch.rand(BATCH, generator=generator))
        noise = torch.randn(clean[rows].shape, generator=generator)
        noised = policy.add_noise(clean[rows], noise, levels)
        predicted = policy.predict_clean(levels, noised, policy.conditioning(texts, 1.0), 1.0)
        loss = squared_error(predicted, clean[rows], policy.noise_scale(levels, noised)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    found = {"steps": arguments.steps, "seconds": time.monotonic() - started} | judge.best(None)
    plain = judge.evaluator.scores(arguments.prompts, 1.0).mean("oracle_reward")
    base = {"base_guidance": judge.base()["best_guidance"], "base_oracle": judge.base()["best_oracle"]}
    return found | base | {"oracle_without_guidance": plain}


def reset(denoiser: torch.nn.Module, seed: int) -> None:
    """Put the LoRA back to where training starts: A random, B zero, so that it changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if parameter.requires_grad:
                is_up = "lora_B" in name
                bound = 0.0 if is_up else parameter[0].numel() ** -0.5
                parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)


if __name__ == "__main__":
    main()
