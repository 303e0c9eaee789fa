"""Signal-to-noise ratio of a batch's policy gradient. One row of gradient_signal.csv per setting and step.

python benchmarks/demo_gain/gradient_signal.py --num-steps 3 --guidance 1.0
python benchmarks/demo_gain/gradient_signal.py --num-steps 10 --guidance 2.0

Before the first update, n batches of 128 pictures (groups of eight) are sampled, each with its gradient g_b. With the
mean m and the trace V of the covariance of the g_b, the squared signal-to-noise ratio of one batch is
(|m|^2 - V / n) / V. This estimate can be below 0 if n batches are too few to show the signal.
"""

import argparse
import csv
import random
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from reward.cli.flags import ArgumentParser
from reward.files.writing import write_whole
from rl.lora.adapter import add_lora
from rl.models.policy import sample_seed
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.updates.ddpo import compute_advantages, step_weights, trained_steps
from tinyworld import weights_path
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import train_prompts

RESULTS = Path(__file__).with_name("gradient_signal.csv")
COLUMNS = ("weights", "num_steps", "guidance", "pictures", "reward", "steps", "weighting", "snr_squared_per_128")
BATCH, GROUP = 128, 8
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-steps", type=int, default=3)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--pictures", type=int, default=1280)
    parser.add_argument("--batch", type=int, default=BATCH, help="pictures per gradient; the table uses 128")
    parser.add_argument("--targets", nargs="+", default=TARGETS, help="layers that get a LoRA")
    parser.add_argument("--label", default="shipped", help="name of the weights in the table")
    arguments = parser.parse_args()
    reward, gradients, policy = measure(arguments)
    head = [arguments.label, arguments.num_steps, arguments.guidance, arguments.pictures, f"{reward:.3f}"]
    rows = [[*head, str(step), "none", f"{ratio(value):.3f}"] for step, value in gradients.items()]
    noisy = list(gradients)[:-1]
    for weighting in ("none", "sigma", "output"):
        weights = step_weights(policy, noisy, weighting)
        total = sum(weights[step] * gradients[step] for step in noisy)
        rows.append([*head, "all but the last", weighting, f"{ratio(total):.3f}"])
    for row in rows:
        print(*row, sep="\t")
    append(rows)


def measure(arguments: argparse.Namespace) -> tuple[float, dict[int, torch.Tensor], StableDiffusionPolicy]:
    """Mean oracle score, the LoRA's gradients (batches, parameters) for each step, and the policy."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        weights_path("stable-diffusion"), safety_checker=None, requires_safety_checker=False, dtype=torch.float32
    )
    policy = StableDiffusionPolicy(pipeline, num_steps=arguments.num_steps, eta=1.0)
    lora = add_lora(pipeline.unet, rank=8, alpha=8, targets=arguments.targets, seed=0)
    drawn = random.Random(0).sample(train_prompts(), arguments.pictures // GROUP)
    prompts = [prompt for prompt in drawn for _ in range(GROUP)]
    window = trained_steps(policy, (0.0, 1.0))
    rewards, gradients = [], {step: [] for step in window}
    for start in range(0, len(prompts), arguments.batch):
        texts = prompts[start : start + arguments.batch]
        seeds = [sample_seed(3, 0, start + index) for index in range(len(texts))]
        trajectory = policy.rollout(texts, seeds, arguments.guidance, log_probs=False)
        with torch.no_grad():
            scores, _ = oracle_reward(policy.decode(trajectory.latents[-1]), texts)
        rewards.append(scores)
        advantages, _ = compute_advantages(scores, GROUP, "group_mean", 5.0)
        conditioning = policy.conditioning(texts, arguments.guidance)
        for step in window:
            latents, after = trajectory.latents[step], trajectory.latents[step + 1]
            value = policy.log_prob(step, latents, after, conditioning, arguments.guidance)
            found = torch.autograd.grad((advantages * value).mean(), lora, allow_unused=True)
            gradients[step].append(torch.cat([g.flatten() for g in found if g is not None]))
    return torch.cat(rewards).mean().item(), {step: torch.stack(g) for step, g in gradients.items()}, policy


def ratio(gradients: torch.Tensor) -> float:
    """Squared signal-to-noise ratio of one batch from (batches, parameters) gradients."""
    mean, noise = gradients.mean(0), gradients.var(0).sum()
    return ((mean.square().sum() - noise / len(gradients)) / noise).item()


def append(rows: list[list]) -> None:
    """Add rows to gradient_signal.csv, atomically."""
    known = [list(COLUMNS)]
    if RESULTS.exists():
        with RESULTS.open(newline="", encoding="utf-8") as file:
            known = list(csv.reader(file))

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([*known, *rows])

    write_whole(RESULTS, write)


if __name__ == "__main__":
    main()
