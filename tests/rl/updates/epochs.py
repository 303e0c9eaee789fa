"""An epoch's experience of the tiny pipeline, as the trainer's loop hands it to an update."""

import contextlib

import torch

from rl.models.policy import sample_seed
from rl.updates.experience import Experience, SampledBatch

PROMPTS = ["a red circle"] * 4 + ["a blue square"] * 4
REWARDS = [0.1, 0.9, 0.4, 0.3, 0.5, 0.2, 0.8, 0.7]


def make_experience(update, rewards):
    """Eight pictures that the update has sampled itself, with the given rewards."""
    trajectory = update.policy.empty_trajectory(8, update.config.sample_guidance_scale)
    seeds = [sample_seed(0, 0, i) for i in range(8)]
    batch = SampledBatch(
        PROMPTS, seeds, trajectory, 0, lambda part: contextlib.nullcontext(), None, lambda images, prompts: images
    )
    update.sample(batch)
    return Experience(trajectory, PROMPTS, torch.tensor(rewards), torch.arange(8))
