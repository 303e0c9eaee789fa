"""On the same rollout our numbers are TRL 0.23.1's."""

import dataclasses

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from rl.config.ddpo_config import DDPOConfig
from rl.config.loading import load_config, read_yaml
from rl.rewards.loading import Reward, RewardSet
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate, PromptStatistics, ppo_loss
from tests.parity.conftest import GUIDANCE, PICTURES, ROUNDS


@pytest.fixture(scope="session")
def ours(comparison):
    """Loss, KL and clip fraction of each step, with and without guidance, and the gradients summed over the steps."""
    records, gradients = [], {}
    stored, policy = comparison.stored, comparison.policy
    advantages = stored["advantages"].clamp(-5.0, 5.0)
    for guided in (True, False):
        guidance = GUIDANCE if guided else 1.0
        conditioning = policy.conditioning(PICTURES, guidance)
        for parameter in comparison.lora.values():
            parameter.grad = None
        for index in range(4):
            latents = stored["latents"]
            new = policy.log_prob(index, latents[index], latents[index + 1], conditioning, guidance)
            loss, record = ppo_loss(new, stored[f"log_probs_{guided}"][index], advantages, 1e-4)
            loss.backward()
            records.append(record[:3].tolist())
        gradients |= {f"{guided}.{name}": p.grad.clone() for name, p in comparison.lora.items()}
    return records, gradients


def test_loss_kl_and_clip_fraction(comparison, ours):
    theirs = torch.tensor(comparison.results["loss_and_gradients"]["records"])
    mine = torch.tensor(ours[0])
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    # Some ratios are beyond the clip and some are not, and the KL is large enough to compare.
    assert torch.equal(mine[:, 2], torch.full((8,), 0.5))
    torch.testing.assert_close(mine[:, 1], theirs[:, 1], rtol=0.05, atol=0)


def test_gradients(comparison, ours):
    theirs = load_file(comparison.folder / "gradients.safetensors")
    assert set(theirs) == set(ours[1]) and len(theirs) > 20
    for name, gradient in ours[1].items():
        scale = max(1.0, theirs[name].abs().max().item())
        torch.testing.assert_close(gradient, theirs[name], rtol=0, atol=1e-5 * scale)
    assert max(gradient.abs().max() for gradient in theirs.values()) > 1e-3


def test_per_prompt_statistics(comparison):
    tracker = PromptStatistics(buffer_size=6, min_count=3)
    for (prompts, rewards), theirs in zip(ROUNDS, comparison.results["prompt_statistics"]["advantages"], strict=True):
        mine = tracker.update(prompts, torch.tensor(rewards, dtype=torch.float64))
        torch.testing.assert_close(mine, torch.tensor(theirs), rtol=1e-5, atol=1e-5)


def test_hyperalign_reward_in_their_ddpo_trainer(comparison):
    result = comparison.results["hyperalign_in_ddpo"]
    assert result["optimizer_steps"] == 1 and 0 < result["moved"] < 1, result


def test_hyperalign_reward_in_their_alignprop_trainer(comparison):
    result = comparison.results["hyperalign_in_alignprop"]
    assert 0 < result["moved"] < 1, result


def test_every_field_of_their_config_is_one_of_ours(comparison):
    fields = {item.name for item in dataclasses.fields(DDPOConfig)}
    assert set(comparison.results["default_config"]["fields"]) <= fields
    values = read_yaml(comparison.folder / "defaults.yaml", DDPOConfig)
    config = DDPOConfig(**values)
    assert (config.mixed_precision, config.train_clip_range, config.sample_batch_size) == ("fp16", 1e-4, 1)


def test_their_yaml_runs_in_ours(comparison, tiny_pipeline_folder, tmp_path):
    config = load_config(
        DDPOConfig, ["--config", str(comparison.folder / "trl.yaml"), "--output_dir", str(tmp_path / "run")]
    )
    assert config.per_prompt_stat_tracking and config.sample_num_steps == 3
    trainer = Trainer(
        config, StableDiffusionPipeline.from_pretrained(tiny_pipeline_folder, safety_checker=None),
        RewardSet([Reward("red", lambda images, prompts, metadata: (images[:, 0].mean((1, 2)), {}))]),
        PICTURES, DDPOUpdate,
    )
    assert trainer.train()["epochs"] == 1
    assert (tmp_path / "run" / "pytorch_lora_weights.safetensors").is_file()
