"""Does the reward see what the oracle sees? Rank correlation on the base model's pictures, and the best of eight.

python -m benchmarks.forward.correlation

48 seen prompts with sixteen pictures each, at both settings. No update can lift what the reward does not see.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.judging import Judge
from benchmarks.results_file import read_rows, write_rows
from reward.cli.flags import ArgumentParser
from reward.statistics.correlations import spearman
from rl.models.policy import sample_seed
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import train_prompts

RESULTS = Path(__file__).with_name("correlation.csv")
COLUMNS = (
    "num_steps", "guidance", "pictures", "oracle", "spearman", "spearman_within_a_prompt", "best_of_8_by_reward",
    "best_of_8_by_oracle",
)  # fmt: skip
SETTINGS = ((3, 1.0), (3, 1.5), (10, 1.0), (10, 2.0))
EACH = 16


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=48)
    arguments = parser.parse_args()
    prompts = random.Random(0).sample(train_prompts(), arguments.prompts)
    rows = []
    for steps, guidance in SETTINGS:
        rows.append({"num_steps": steps, "guidance": f"{guidance:g}"} | measure(prompts, steps, guidance))
        print(*rows[-1].values(), sep="\t", flush=True)
    known = [(row["num_steps"], row["guidance"]) for row in rows]
    others = [row for row in read_rows(RESULTS) if (int(row["num_steps"]), row["guidance"]) not in known]
    write_rows(RESULTS, COLUMNS, [*others, *rows])


@torch.no_grad()
def measure(prompts: list[str], steps: int, guidance: float) -> dict[str, float]:
    """Correlations and the best of eight, from EACH pictures of every prompt."""
    evaluator = Judge(1, steps=steps).evaluator
    texts = [prompt for prompt in prompts for _ in range(EACH)]
    rewards, oracles = [], []
    with evaluator.policy.base_model():
        for start in tqdm(range(0, len(texts), 64), desc=f"{steps} steps, guidance {guidance:g}", unit="batch"):
            part = texts[start : start + 64]
            seeds = [sample_seed(5, start + place) for place in range(len(part))]
            pictures = evaluator.policy.decode(
                evaluator.policy.rollout(part, seeds, guidance, log_probs=False).latents[-1]
            )
            rewards.append(evaluator.rewards(pictures, part)[0])
            oracles.append(oracle_reward(pictures, part)[0])
    reward, oracle = (torch.cat(parts).double().numpy() for parts in (rewards, oracles))
    own, truth = reward.reshape(-1, EACH), oracle.reshape(-1, EACH)
    # A prompt whose pictures are all right or all wrong says nothing about the order.
    within = [spearman(a, b) for a, b in zip(own, truth, strict=True) if np.ptp(b) > 0]
    eights = own.reshape(-1, 8), truth.reshape(-1, 8)
    chosen = np.take_along_axis(eights[1], eights[0].argmax(1)[:, None], 1)
    return {
        "pictures": len(oracle), "oracle": float(oracle.mean()), "spearman": float(spearman(reward, oracle)),
        "spearman_within_a_prompt": float(np.mean(within)) if within else float("nan"),
        "best_of_8_by_reward": float(chosen.mean()), "best_of_8_by_oracle": float(eights[1].max(1).mean()),
    }  # fmt: skip


if __name__ == "__main__":
    main()
