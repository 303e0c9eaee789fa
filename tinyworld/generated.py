"""Pictures that the tiny Stable Diffusion generates, scored by the oracle.

A reward trained on clean scenes only cannot tell a good generated picture from a bad one. Human scores, too, are given
to generated pictures.
"""

import numpy as np
import torch

from rl.models.policy import sample_seed
from rl.models.stable_diffusion import StableDiffusionPolicy
from tinyworld.data import altered
from tinyworld.oracle import facts_that_hold, read_scene
from tinyworld.scenes import sample_prompt

_GUIDANCES = (1.0, 1.5, 2.0)
_NUM_STEPS = (5, 5, 10)  # few and many, because fine-tuning samples in few steps
_BATCH = 128


def generated_pairs(
    pipeline, count: int, seed: int, held_out: bool = False
) -> tuple[torch.Tensor, list[str], torch.Tensor, torch.Tensor]:
    """Generates `count` pictures and scores each for two prompts: its own, and one that `altered` makes of it.

    Args:
        held_out: use prompts of the held-out split.

    Returns:
        (pictures (count, 3, 48, 48), 2 * count prompts, (2 * count,) shares of facts that hold, (2 * count,) index
        of each pair's picture).
    """
    policies = {steps: StableDiffusionPolicy(pipeline, num_steps=steps, eta=1.0) for steps in set(_NUM_STEPS)}
    pictures, texts, scores = [], [], []
    for part in range(-(-count // _BATCH)):
        rng = np.random.default_rng((seed, part))
        prompts = [sample_prompt(rng, held_out) for _ in range(min(_BATCH, count - part * _BATCH))]
        seeds = [sample_seed(seed, part, index) for index in range(len(prompts))]
        guidance = _GUIDANCES[part % len(_GUIDANCES)]
        policy = policies[_NUM_STEPS[part // len(_GUIDANCES) % len(_NUM_STEPS)]]
        latents = policy.rollout([p.text for p in prompts], seeds, guidance, log_probs=False).latents[-1]
        with torch.no_grad():
            drawn = policy.decode(latents)
        pictures.append(drawn)
        for picture, prompt in zip(drawn.permute(0, 2, 3, 1).numpy(), prompts, strict=True):
            found = read_scene(picture)
            for asked in (prompt, altered(prompt, rng, not held_out)):
                texts.append(asked.text)
                scores.append(np.mean(facts_that_hold(found, asked)))
    index = torch.arange(count).repeat_interleave(2)
    return torch.cat(pictures).contiguous(), texts, torch.tensor(np.array(scores), dtype=torch.float32), index
