"""NFT, matching and DPO through the whole trainer: entry scripts, resume bit for bit, two processes, the run folder."""

import csv
import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from rl import dpo_train, matching_train, nft_train
from rl.config.forward_config import DPOConfig, MatchingConfig, NFTConfig
from rl.rewards.loading import Reward, RewardSet
from rl.trainer import Trainer
from rl.updates.dpo import DPOUpdate
from rl.updates.matching import MatchingUpdate
from rl.updates.nft import NFTUpdate
from tests.rl.test_distributed import UPDATE_METRICS, assert_same_training, train

RULES = {"nft": (NFTConfig, NFTUpdate), "matching": (MatchingConfig, MatchingUpdate), "dpo": (DPOConfig, DPOUpdate)}
PROMPTS = ["a red circle", "a blue square", "two green dots"]


def redness(images, prompts, metadata):
    return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2)), {}


@pytest.fixture(params=list(RULES))
def rule(request):
    return request.param


def make_trainer(rule, folder, run, **changes):
    config_class, update_class = RULES[rule]
    values = dict(
        output_dir=str(run), num_epochs=4, save_freq=2, sample_num_steps=3, sample_eta=0.0, sample_guidance_scale=2.0,
        sample_batch_size=4, sample_num_batches_per_epoch=2, sample_group_size=4, train_batch_size=2,
        train_learning_rate=1e-3, train_kl_weight=0.01, old_decay_rate=0.3, lora_rank=4, lora_alpha=8.0, ema_decay=0.9,
        log_with=None,
    )  # fmt: skip
    if rule == "dpo":
        values["train_batch_size"] = 1
    return Trainer(
        config_class(**(values | changes)), StableDiffusionPipeline.from_pretrained(folder, safety_checker=None),
        RewardSet([Reward("redness", redness)]), PROMPTS, update_class,
    )


def test_resumed_equals_uninterrupted_bit_for_bit(rule, tiny_pipeline_folder, tmp_path):
    whole = make_trainer(rule, tiny_pipeline_folder, tmp_path / "whole")
    whole.train()
    run = tmp_path / "parts"
    make_trainer(rule, tiny_pipeline_folder, run, num_epochs=2).train()
    torch.manual_seed(99)
    resumed = make_trainer(rule, tiny_pipeline_folder, run, resume_from=str(run))
    resumed.train()
    assert all(torch.equal(a, b) for a, b in zip(whole.lora, resumed.lora, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole.update.old.shadow, resumed.update.old.shadow, strict=True))
    first, second = (load_file(folder / "pytorch_lora_weights.safetensors") for folder in (tmp_path / "whole", run))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_checkpoint_without_the_old_lora_is_refused(tiny_pipeline_folder, tmp_path):
    run = tmp_path / "run"
    make_trainer("nft", tiny_pipeline_folder, run, num_epochs=2).train()
    trainer = make_trainer("nft", tiny_pipeline_folder, run, resume_from=str(run))
    trainer.update.load_state_tensors, load = lambda tensors: load({}), trainer.update.load_state_tensors
    with pytest.raises(ValueError, match="old.0"):
        trainer.train()


def test_two_processes_equal_one(rule, tiny_pipeline_folder, tmp_path):
    settings = {
        "sample_group_size": 8, "sample_eta": 0.0, "train_kl_weight": 0.1, "old_decay_rate": 0.5,
        "noise_levels_per_picture": 3, "visited_share": 0.5,
    }  # fmt: skip
    runs = {}
    for processes in (1, 2):
        size = (2 if rule == "dpo" else 8) // processes
        runs[processes], _ = train(
            tmp_path, str(processes), processes, tiny_pipeline_folder, script=f"rl.{rule}_train",
            train_batch_size=size, **settings,
        )
    assert_same_training(runs[1], runs[2], UPDATE_METRICS, weights_within=2e-5, rel=1e-3, abs=1e-5)


SCRIPTS = {"nft": nft_train, "matching": matching_train, "dpo": dpo_train}


def test_the_packaged_recipe_lifts_the_reward_on_held_out_prompts(rule, tmp_path, monkeypatch):
    """A few epochs of the tiny world, the recipe's own settings; the oracle is what the benchmark looks at."""
    monkeypatch.chdir(tmp_path)
    SCRIPTS[rule].main([
        "--output_dir", "run", "--num_epochs", "8", "--sample_num_batches_per_epoch", "1", "--log_with", "none",
        "--eval_num_prompts", "64", "--eval_guidance_scales", "1.0", "--ema_decay", "0",
    ])  # fmt: skip
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["reward_gain_ci"][0] > 0, summary
    assert {"oracle_base", "oracle_lora", "oracle_gain_ci"} <= summary.keys()
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["grad_norm"]) > 0 and last["reward_queries"] == "64"


def test_a_wrong_option_is_one_line(capsys):
    with pytest.raises(SystemExit, match="hyperalign-nft: Unknown flag --nft_bta. Did you mean 'nft_beta'"):
        nft_train.main(["--nft_bta", "1"])
