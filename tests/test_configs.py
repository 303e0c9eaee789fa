"""Every recipe in configs/ trains, shrunk to a tiny random pipeline of the same class; the commands start."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from rl.config.ddpo_config import DDPOConfig
from rl.config.direct_config import DirectConfig
from rl.config.forward_config import DPOConfig, MatchingConfig, NFTConfig
from rl.config.loading import load_config
from rl.models.loading import denoiser_name
from rl.prompts import load_prompts
from rl.rewards.loading import Reward, RewardSet
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate
from rl.updates.direct import DirectUpdate
from rl.updates.dpo import DPOUpdate
from rl.updates.matching import MatchingUpdate
from rl.updates.nft import NFTUpdate
from tests.rl.models.flow_pipelines import RESOLUTIONS, build

ROOT = Path(__file__).resolve().parents[1]
# Those of the evaluator (hyperalign_*) are read in tests/reward/training/test_recipe.py.
RECIPES = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.name.startswith("hyperalign_"))
TRAINERS = {
    "ddpo": (DDPOConfig, DDPOUpdate), "draft": (DirectConfig, DirectUpdate), "nft": (NFTConfig, NFTUpdate),
    "matching": (MatchingConfig, MatchingUpdate), "dpo": (DPOConfig, DPOUpdate),
}  # fmt: skip
# By the end of a recipe's name: the family of tiny flow-matching pipelines that stands for its model.
FLOW = {"sd35": "sd3", "flux": "flux", "qwen_image": "qwen_image", "z_image": "z_image", "sana": "sana"}
# Of a tiny epoch of eight pictures in two groups; direct backpropagation has none.
BATCHES = {"ddpo": "4", "nft": "4", "matching": "4", "dpo": "1"}
LAUNCHER = [str(Path(sys.executable).with_name("accelerate")), "launch", "--config_file"]
LAUNCHER.append("configs/accelerate/one_process.yaml")

# What a CPU cannot afford; everything else stays as the recipe has it.
SMALL = {
    "resolution": "16", "mixed_precision": "no", "num_epochs": "1", "num_threads": "1", "log_with": "none",
    "sample_num_steps": "3", "sample_batch_size": "4", "sample_num_batches_per_epoch": "2", "sample_group_size": "4",
    "train_gradient_accumulation_steps": "1", "lora_rank": "2",
    "eval_num_prompts": "4", "eval_freq": "1", "eval_freq_num_prompts": "2", "eval_batch_size": "2",
}  # fmt: skip


def brightness(images, prompts, metadata):
    """Stands for the recipe's reward models."""
    return images.mean((1, 2, 3)), {}


def test_there_are_recipes_and_each_is_tested():
    assert {path.name.partition("_")[0] for path in RECIPES} == set(TRAINERS)


def trainer_of(path):
    return TRAINERS[path.name.partition("_")[0]]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_recipe_itself_is_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_config(trainer_of(path)[0], ["--config", str(path)])
    assert config.check_groups(num_processes=1) >= 2
    train, held_out = load_prompts(config.prompts), load_prompts(config.eval_prompts)
    assert len(train) >= config.check_groups(num_processes=1)
    assert not set(train) & set(held_out)
    for spec in [*config.rewards, *config.eval_rewards]:
        assert spec.startswith("hyperalign:") and float(spec.partition("=")[2] or "1") > 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_one_step_of_the_recipe(path, request, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    rule, _, model = path.stem.partition("_")
    overrides = SMALL | ({"train_batch_size": BATCHES[rule]} if rule in BATCHES else {})
    if model in FLOW:
        pipeline = build(FLOW[model], tmp_path)
        overrides["resolution"] = str(RESOLUTIONS[FLOW[model]])
    else:
        pipeline = request.getfixturevalue("tiny_sdxl" if model == "sdxl" else "tiny_pipeline")
    denoiser = getattr(pipeline, denoiser_name(pipeline))
    config_class, update_class = trainer_of(path)
    flags = [text for name, value in overrides.items() for text in (f"--{name}", value)]
    run = tmp_path / "run"
    config = load_config(config_class, ["--config", str(path), "--output_dir", str(run), *flags])
    rewards = RewardSet([Reward("brightness", brightness)], keep_graph=update_class.needs_gradients)
    before = {name: weight.clone() for name, weight in denoiser.state_dict().items()}
    trainer = Trainer(
        config, pipeline, rewards, load_prompts(config.prompts), update_class,
        eval_rewards=rewards, eval_prompts=load_prompts(config.eval_prompts),
    )  # fmt: skip
    summary = trainer.train()
    after = denoiser.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items() if name in after)
    assert any("lora_B" in name and weight.abs().max() > 0 for name, weight in after.items())
    assert math.isfinite(summary["reward_lora"])
    for name in ("config.yaml", "metrics.csv", "summary.json", "report.html", "pytorch_lora_weights.safetensors"):
        assert (run / name).is_file(), name
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert kept["train_learning_rate"] == yaml.safe_load(path.read_text())["train_learning_rate"]


@pytest.mark.parametrize(
    "command",
    [[*LAUNCHER, "rl/ddpo_train.py"], [sys.executable, "-m", "rl.ddpo_train"], [sys.executable, "rl/ddpo_train.py"]],
    ids=["accelerate launch", "python -m", "python"],
)
def test_help_works_from_the_root(command):
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--train_clip_range" in done.stdout and "--output_dir" in done.stdout
    assert "were not passed" not in done.stderr, "accelerate had to guess"
