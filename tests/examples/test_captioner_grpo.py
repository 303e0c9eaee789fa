"""examples/captioner_grpo.py with TRL's own trainer: a few steps, and every shape of reward beside each other."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
import trl
from packaging.version import Version
from trl import GRPOConfig, GRPOTrainer

from attention_refine import CaptionCheck, ContrastiveAttentionConfig
from attention_refine.vlm.loading import load_model
from reward import HyperAlignReward
from reward.trl_adapters import caption_reward, grpo_reward
from tinyworld import weights_path

ROOT = Path(__file__).resolve().parents[2]
# the lowest TRL that we support is the last one with a DDPO trainer; its GRPO trainer knows no asynchronous rewards
pytestmark = pytest.mark.skipif(Version(trl.__version__) < Version("1"), reason="the example is for TRL 1.x")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("captioner_grpo", ROOT / "examples" / "captioner_grpo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hyperalign():
    return HyperAlignReward.from_pretrained(weights_path("hyperalign"))


def test_the_example_trains_and_measures(example, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["captioner_grpo.py", "--steps", "2", "--scenes", "24", "--output", str(tmp_path)])
    example.main()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert 0 < summary["before"] < 0.9, "noise has made it forget, and not everything"
    assert summary["gain"] == pytest.approx(summary["after"] - summary["before"])
    low, high = summary["gain_ci"]
    assert low <= summary["gain"] <= high and summary["steps"] == 2
    assert "fact recall on 24 held-out scenes" in capsys.readouterr().out


def test_the_control_gives_the_same_rewards_to_other_captions(example):
    shuffled = example.shuffled(lambda **columns: list(range(100)), seed=0)
    first, second = shuffled(image=[]), shuffled(image=[])
    assert sorted(first) == list(range(100)) and first != second != list(range(100))


def test_recall_is_of_the_facts_and_not_of_the_reward(example):
    model, processor = load_model(str(weights_path("llava")), device="cpu")
    good = example.fact_recall(model, processor, 24)
    example.add_noise(model, 3.0, seed=0)
    noisy = example.fact_recall(model, processor, 24)
    mean = [sum(map(sum, told)) / sum(map(len, told)) for told in (good, noisy)]
    assert mean[0] > 0.9 and mean[1] < 0.4 and list(map(len, good)) == list(map(len, noisy))


def test_trl_takes_every_shape_of_our_rewards(example, hyperalign, tmp_path):
    model, processor = load_model(str(weights_path("llava")), device="cpu")
    judge = load_model(str(weights_path("llava")), device="cpu")
    with_contrast = CaptionCheck(*judge, contrastive=ContrastiveAttentionConfig.for_depth(8))
    rewards = [
        grpo_reward(hyperalign), grpo_reward(hyperalign, asynchronous=True), caption_reward(CaptionCheck(*judge)),
        caption_reward(with_contrast), caption_reward(CaptionCheck(*judge), measure="questions_yes"),
    ]  # fmt: skip
    rewards[1].__name__, rewards[3].__name__ = "asynchronous", "contrastive"
    before = [weight.detach().clone() for weight in model.parameters()]
    trainer = GRPOTrainer(
        model=model, processing_class=processor, reward_funcs=rewards, train_dataset=example.training_scenes(2, 0),
        args=GRPOConfig(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=8, num_generations=4,
            max_completion_length=12, temperature=2.0, learning_rate=1e-3, gradient_checkpointing=False, bf16=False,
            use_cpu=True, save_strategy="no", logging_steps=1, report_to="none",
        ),
    )  # fmt: skip
    trainer.train()
    log = trainer.state.log_history[0]
    mean = {name: log[f"rewards/{name}/mean"] for name in [fn.__name__ for fn in rewards]}
    assert mean["hyperalign"] == mean["asynchronous"]
    assert 0 < mean["caption_prompt_yes"] < 1 and mean["contrastive"] != mean["caption_prompt_yes"]
    assert log["reward"] == pytest.approx(sum(mean.values()), rel=1e-5)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
