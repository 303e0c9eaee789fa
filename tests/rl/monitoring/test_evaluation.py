import json

import numpy as np
import pytest
import torch
from PIL import Image

from rl.lora.adapter import add_lora
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.monitoring.evaluation import Comparison, Evaluator, Scores, bootstrap_interval, short_name, write_evaluation
from rl.rewards.loading import Reward, RewardSet


def red(images, prompts, metadata):
    return images[:, 0].mean((1, 2)), {}


def oracle_reward(images, prompts, metadata):
    return 1 - images.mean((1, 2, 3)), {}


@pytest.fixture
def evaluator(tiny_pipeline):
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=4)
    for number, parameter in enumerate(
        add_lora(tiny_pipeline.unet, rank=4, alpha=8, targets=["to_v"], seed=0)
    ):
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(number))
    return make(policy)


def make(policy, **changes):
    values = dict(seed=3, batch_size=4) | changes
    return Evaluator(
        policy, RewardSet([Reward("red", red)]), RewardSet([Reward("oracle_reward", oracle_reward)]),
        ["a red circle", "a blue square", "two dots"], **values,
    )


def test_scores_do_not_depend_on_batch_size_or_processes(evaluator):
    expected = evaluator.scores(7, 2.0)
    assert list(expected.columns) == ["reward", "oracle_reward"]
    assert evaluator.metric == "oracle_reward"
    again = make(evaluator.policy, batch_size=3).scores(7, 2.0)
    rows = []
    for rank in range(2):
        make(evaluator.policy, process=(rank, 2), gather=lambda own: rows.extend(own) or [[0, 0, 0]]).scores(7, 2.0)
    split = make(evaluator.policy, gather=lambda own: rows).scores(7, 2.0)
    for name, column in expected.columns.items():
        np.testing.assert_allclose(again.columns[name], column, atol=1e-5)
        np.testing.assert_allclose(split.columns[name], column, atol=1e-5)


def test_pictures_are_scored_in_their_places(evaluator):
    scores = evaluator.scores(5, 1.0)
    images = evaluator.pictures([3], 1.0)
    assert scores.columns["reward"][3] == pytest.approx(red(images, None, None)[0].item(), abs=1e-5)
    assert evaluator.prompt(3) == "a red circle"


def test_compare_and_write(evaluator, tmp_path):
    counted = []
    comparison = evaluator.compare(6, [1.0, 3.0], counted.append)
    assert sum(counted) == 24
    with evaluator.policy.base_model():
        base = evaluator.scores(6, comparison.guidance_base)
    summary = comparison.summary()
    assert summary["reward_base"] == pytest.approx(base.mean("reward"), abs=1e-6)
    assert summary["oracle_gain"] == pytest.approx(summary["oracle_lora"] - summary["oracle_base"])
    assert summary["n_prompts"] == 6 and len(summary["oracle_gain_ci"]) == 2
    assert summary["reward_base"] != summary["reward_lora"]
    assert "oracle" in comparison.table()
    write_evaluation(tmp_path, evaluator, comparison, examples=3)
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert len(record["sweep"]) == 4 and len(record["examples"]) == 3
    example = record["examples"][1]
    assert Image.open(tmp_path / example["lora"]).size == (16, 16)
    assert {"prompt", "seed", "base", "lora", "reward_base", "reward_lora", "oracle_base", "oracle_lora"} == set(
        example
    )
    picture = torch.from_numpy(np.array(Image.open(tmp_path / example["base"]))).permute(2, 0, 1)[None] / 255
    assert example["reward_base"] == pytest.approx(red(picture, None, None)[0].item(), abs=5e-3)
    json.dumps(summary)


def test_each_side_at_its_own_best_guidance():
    def scores(reward, oracle):
        return Scores({"reward": np.full(4, reward), "oracle_reward": np.full(4, oracle)})

    comparison = Comparison(
        base={1.0: scores(0.9, 0.2), 3.0: scores(0.1, 0.5)},
        lora={1.0: scores(0.2, 0.6), 3.0: scores(0.8, 0.4)},
        metric="oracle_reward", prompts=list("abcd"),
    )
    assert (comparison.guidance_base, comparison.guidance_lora) == (3.0, 1.0)
    assert comparison.summary()["oracle_gain"] == pytest.approx(0.1)


def test_bootstrap_draws_whole_prompts():
    gains = np.random.default_rng(0).normal(0.1, 1.0, size=400)
    low, high = bootstrap_interval(gains, [str(i) for i in range(400)])
    assert low == pytest.approx(gains.mean() - 1.96 * gains.std() / 20, abs=0.01)
    assert high == pytest.approx(gains.mean() + 1.96 * gains.std() / 20, abs=0.01)
    # Four copies of each prompt's gain carry no more information than one.
    copies, names = np.repeat(gains[:100], 4), [str(i // 4) for i in range(400)]
    wide = bootstrap_interval(copies, names)
    assert wide[1] - wide[0] > 1.7 * (high - low)


def test_short_name():
    assert (short_name("oracle_reward"), short_name("reward"), short_name("red")) == ("oracle", "reward", "red")


def test_metric_without_held_out_reward(evaluator):
    plain = Evaluator(evaluator.policy, evaluator.rewards, RewardSet([]), ["x"], seed=0, batch_size=2)
    assert plain.metric == "reward"
    assert list(plain.scores(2, 1.0).columns) == ["reward"]


def test_a_held_out_reward_may_not_be_called_reward(evaluator):
    with pytest.raises(ValueError, match="other names than 'reward'"):
        Evaluator(
            evaluator.policy, evaluator.rewards, RewardSet([Reward("reward", red)]), ["x"], seed=0, batch_size=2
        )


def test_strengths_of_the_lora_at_its_best_guidance(evaluator):
    counted = []
    comparison = evaluator.compare(4, [1.0, 3.0], counted.append, lora_scales=[0.5, 0.0, 1.0])
    assert sum(counted) == 4 * (2 * 2 + 2)
    rows = {row["scale"]: row["reward"] for row in comparison.lora_scales()}
    assert list(rows) == [0.0, 0.5, 1.0]
    assert rows[1.0] == comparison.lora[comparison.guidance_lora].mean("reward")
    with evaluator.policy.base_model():
        base = evaluator.scores(4, comparison.guidance_lora).mean("reward")
    assert rows[0.0] == pytest.approx(base, abs=1e-5) and rows[0.5] not in (rows[0.0], rows[1.0])
    assert "LoRA at strength 0.5" in comparison.table()
    assert evaluator.compare(2, [1.0]).lora_scales() == []
