import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rl.config.ddpo_config import DDPOConfig
from rl.config.direct_config import DirectConfig
from rl.config.loading import load_config
from rl.direct_train import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path, tiny_pipeline_folder, monkeypatch):
    (tmp_path / "toy_source.py").write_text(
        "def redness(images, prompts, metadata): return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2)), {}\n"
        "def brightness(images, prompts, metadata): return images.mean((1, 2, 3)), {}\n"
        "def prompts(): return ['a red circle', 'a blue square', 'two dots']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    # Another test's module of that name may have been imported before.
    monkeypatch.delitem(sys.modules, "toy_source", raising=False)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {tiny_pipeline_folder}\nrewards: ['toy_source:redness']\nprompts: toy_source:prompts\n"
        "eval_rewards: ['toy_source:brightness']\nnum_epochs: 3\nsample_num_steps: 3\nsample_guidance_scale: 1.0\n"
        "sample_batch_size: 4\nsample_num_batches_per_epoch: 2\ntrain_learning_rate: 0.003\nlora_rank: 4\n"
        "ema_decay: 0.5\nlr_schedule: cosine\nlog_with: null\n"
    )
    return path


def train(recipe, run, *words):
    main(["--config", str(recipe), "--output_dir", str(run), *words])
    with open(run / "metrics.csv", newline="") as file:
        rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]
    return rows, load_file(run / "pytorch_lora_weights.safetensors")


@pytest.mark.parametrize("method", ["refl", "draft", "draft-lv", "alignprop"])
def test_resumed_equals_uninterrupted_bit_for_bit(recipe, tmp_path, method):
    words = ["--method", method, "--train_kl_weight", "0.1", "--reward_augmentation", "0.1"]
    whole = train(recipe, tmp_path / "whole", *words)
    # A run that is cut short, as by a kill after its second epoch.
    train(recipe, tmp_path / "parts", *words, "--save_freq", "1")
    for left in (tmp_path / "parts" / "checkpoints").glob("checkpoint_3"):
        for path in left.iterdir():
            path.unlink()
        left.rmdir()
    resumed = train(recipe, tmp_path / "parts", *words, "--resume_from", str(tmp_path / "parts"))
    assert resumed[0] == whole[0] and len(whole[0]) == 3
    assert all(torch.equal(whole[1][name], resumed[1][name]) for name in whole[1])


def test_reward_rises_and_costs_are_counted(recipe, tmp_path):
    rows, _ = train(
        recipe, tmp_path / "run", "--num_epochs", "8", "--backprop_steps", "0", "--train_learning_rate", "0.02",
        "--lr_schedule", "constant", "--eval_at_end", "true", "--eval_num_prompts", "4", "--eval_guidance_scales", "1",
        "--eval_lora_scales", "0.5", "--train_step_checkpointing", "false",
    )
    rewards = [float(row["reward_mean"]) for row in rows]
    assert sum(rewards[-2:]) / 2 > rewards[0] + 0.02
    # Two batches of four pictures, three steps each, without guidance.
    assert rows[0]["reward_queries"] == "8" and rows[0]["denoiser_evaluations"] == "24"
    assert rows[0]["optimizer_steps"] == "2" and rows[0]["backprop_steps"] == "3"
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [row["scale"] for row in evaluation["lora_scales"]] == [0.5, 1.0]
    assert "Strength of the LoRA" in (tmp_path / "run" / "report.html").read_text()


def test_an_ensemble_under_min(recipe, tmp_path):
    both = ["--rewards", "toy_source:redness", "toy_source:brightness"]
    rows, _ = train(recipe, tmp_path / "min", *both, "--reward_aggregation", "min", "--num_epochs", "1")
    each = [float(rows[0][f"reward/{name}"]) for name in ("redness", "brightness")]
    assert float(rows[0]["reward_mean"]) <= min(each) + 1e-6


def test_a_reward_without_gradient_ends_in_its_name(recipe, tmp_path):
    with pytest.raises(ValueError, match="Expected a differentiable reward, got 'jpeg_compressibility'"):
        main(["--config", str(recipe), "--output_dir", str(tmp_path / "run"), "--rewards",
              "rl.rewards.jpeg:jpeg_compressibility"])  # fmt: skip


def test_the_packaged_recipe_is_a_config():
    config = DirectConfig(**yaml.safe_load((ROOT / "tinyworld" / "direct.yaml").read_text()))
    assert config.output_dir == "runs/direct"


def test_ddpos_own_fields_are_unknown_here(tmp_path):
    (tmp_path / "recipe.yaml").write_text("train_clip_range: 0.1\n")
    with pytest.raises(ValueError, match="train_clip_range"):
        load_config(DirectConfig, ["--config", str(tmp_path / "recipe.yaml")])
    assert "train_clip_range" in DDPOConfig.__dataclass_fields__


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"async_reward_computation": True}, "async_reward_computation: expected false"),
        ({"reward_normalization": "epoch"}, "reward_normalization: expected none"),
        ({"sample_num_batches_per_epoch": 3, "train_gradient_accumulation_steps": 2}, "expected a divisor"),
        ({"refl_window": [0.9, 0.2]}, "refl_window: expected"),
        ({"method": "drift"}, "method: expected one of refl, draft, draft-lv, alignprop"),
        ({"backprop_steps": -1}, "backprop_steps"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DirectConfig(**changes)


def test_runs_as_a_script_from_the_repo_root():
    done = subprocess.run(
        [sys.executable, "rl/direct_train.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "usage: hyperalign-direct [--config FILE]" in done.stdout and "--backprop_steps" in done.stdout
