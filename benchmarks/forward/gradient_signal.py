"""Signal-to-noise ratio of a batch's NFT gradient. One row of gradient_signal.csv per setting, reward and noise.

python -m benchmarks.forward.gradient_signal --num-steps 3 --guidance 1 1
python -m benchmarks.forward.gradient_signal --num-steps 10 --guidance 2 1

As benchmarks/demo_gain/gradient_signal.py does for DDPO: before the first update, batches of 128 pictures in groups of
eight, each with its gradient; the squared ratio of the mean to the noise. By the reward and by the oracle; with new
noise for every picture, as trained, and with the same noise for the pictures of a group.
"""

import argparse
import random
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import StableDiffusionPipeline
from tqdm.auto import tqdm

from benchmarks.demo_gain.gradient_signal import ratio
from benchmarks.results_file import read_rows, write_rows
from reward import HyperAlignReward
from reward.cli.flags import ArgumentParser
from rl.config.forward_config import NFTConfig
from rl.lora.adapter import add_lora
from rl.models.policy import Trajectory, sample_seed
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.updates.advantages import compute_advantages
from rl.updates.nft import NFTUpdate
from tinyworld import weights_path
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import train_prompts

RESULTS = Path(__file__).with_name("gradient_signal.csv")
COLUMNS = ("num_steps", "rollout_guidance", "train_guidance", "pictures", "reward", "states", "snr_squared_per_128")
BATCH, GROUP, PASS = 128, 8, 32
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj"]


class SameNoiseInAGroup(NFTUpdate):
    """NFT whose pictures of a group are trained on together, at the same noise levels and with the same noise."""

    members = GROUP

    def units(self, rewards: torch.Tensor) -> torch.Tensor:
        """Indices (groups, GROUP)."""
        return torch.arange(len(rewards)).view(-1, GROUP)


STATES = {"new noise": NFTUpdate, "the same in a group": SameNoiseInAGroup}


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-steps", type=int, default=3)
    parser.add_argument("--guidance", type=float, nargs=2, default=[1.0, 1.0], metavar=("ROLLOUT", "TRAINING"))
    parser.add_argument("--pictures", type=int, default=2048)
    arguments = parser.parse_args()
    rollout, training = arguments.guidance
    head = dict(zip(COLUMNS, (arguments.num_steps, f"{rollout:g}", f"{training:g}", arguments.pictures), strict=False))
    found = measure(arguments.num_steps, rollout, training, arguments.pictures)
    new = [
        {name: str(value) for name, value in head.items()}
        | {"reward": reward, "states": states, "snr_squared_per_128": f"{ratio(gradients):.3f}"}
        for (reward, states), gradients in found.items()
    ]
    for row in new:
        print(*row.values(), sep="\t")
    # A setting that is measured again replaces its rows.
    key = COLUMNS[:3]
    old = [row for row in read_rows(RESULTS) if any(row[name] != new[0][name] for name in key)]
    write_rows(RESULTS, COLUMNS, [*old, *new])


def measure(steps: int, rollout: float, training: float, pictures: int) -> dict[tuple[str, str], torch.Tensor]:
    """(reward, states) -> gradients (batches, parameters)."""
    pipeline = StableDiffusionPipeline.from_pretrained(weights_path("stable-diffusion"), safety_checker=None)
    policy = StableDiffusionPolicy(pipeline, num_steps=steps, eta=1.0)
    lora = add_lora(pipeline.unet, rank=8, alpha=8, targets=TARGETS, seed=0)
    hyperalign = HyperAlignReward.from_pretrained(weights_path("hyperalign")).ddpo()
    config = NFTConfig(
        noise_levels="sampler", sample_guidance_scale=rollout, train_guidance_scale=training,
        sample_batch_size=BATCH, sample_num_batches_per_epoch=1, sample_group_size=GROUP, train_batch_size=GROUP,
    )  # fmt: skip
    alone = SimpleNamespace(num_processes=1, process_index=0)
    updates = {name: kind(config, policy, alone, torch.optim.AdamW(lora)) for name, kind in STATES.items()}
    drawn = random.Random(0).sample(train_prompts(), pictures // GROUP)
    found: dict[tuple[str, str], list[torch.Tensor]] = {}
    for batch in tqdm(range(pictures // BATCH), desc="batches", unit="batch"):
        groups = drawn[batch * BATCH // GROUP : (batch + 1) * BATCH // GROUP]
        prompts = [prompt for prompt in groups for _ in range(GROUP)]
        seeds = [sample_seed(3, 0, batch * BATCH + place) for place in range(BATCH)]
        trajectory = policy.rollout(prompts, seeds, rollout, log_probs=False)
        with torch.no_grad():
            images = policy.decode(trajectory.latents[-1])
            scores = {"hyperalign": hyperalign(images, prompts, None)[0], "oracle": oracle_reward(images, prompts)[0]}
        for reward, values in scores.items():
            for states, update in updates.items():
                gradient = gradient_of(update, batch, trajectory, prompts, torch.as_tensor(values).float(), lora)
                found.setdefault((reward, states), []).append(gradient)
    return {key: torch.stack(gradients) for key, gradients in found.items()}


def gradient_of(
    update: NFTUpdate, batch: int, trajectory: Trajectory, prompts: list[str], rewards: torch.Tensor,
    lora: list[torch.nn.Parameter],
) -> torch.Tensor:
    """The loss's gradient (parameters,) over a whole batch, summed in parts that fit into memory."""
    advantages, _ = compute_advantages(rewards, GROUP, "group", update.config.train_adv_clip_max)
    units, total = update.units(rewards), torch.zeros(())
    for part in units.split(max(1, PASS // units.shape[1])):
        rows = update._noised(part, batch, 0, trajectory.latents, prompts, advantages)
        loss, _ = update.loss(rows)
        parts = torch.autograd.grad(loss * len(part) / len(units), lora, allow_unused=True)
        total = total + torch.cat([gradient.flatten() for gradient in parts if gradient is not None])
    return total


if __name__ == "__main__":
    main()
