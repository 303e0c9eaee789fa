"""The panel on a real, tiny pipeline: pairing, processes, resuming, and the alarm end to end."""

import json

import numpy as np
import pytest
import torch

import rl.monitoring.hacking_panel
from rl.lora.adapter import add_lora
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.monitoring.evaluation import Evaluator
from rl.monitoring.hacking_alarm import PANEL_FILE
from rl.monitoring.hacking_panel import HackingPanel
from rl.monitoring.side_metrics import colour_entropy, diversity, saturation, similarity
from rl.rewards.loading import Reward, RewardSet

PROMPTS = [f"prompt {letter}" for letter in "abcdefghij"]
COLUMNS = ["reward", "dark_reward", "similarity_to_base", "colour_entropy", "edge_density", "saturation", "diversity"]


def red(images, prompts, metadata):
    return images[:, 0].mean((1, 2)), {}


def dark_reward(images, prompts, metadata):
    return 1 - images.mean((1, 2, 3)), {}


def noisy(images, prompts, metadata):
    return torch.rand(len(images)), {}


@pytest.fixture
def policy(tiny_pipeline):
    return StableDiffusionPolicy(tiny_pipeline, num_steps=3)


@pytest.fixture
def lora(policy):
    return add_lora(policy.denoiser, rank=4, alpha=8, targets=["to_v", "to_out.0"], seed=0)


def learn(lora, std=0.5):
    for number, parameter in enumerate(lora):
        torch.nn.init.normal_(parameter, std=std, generator=torch.Generator().manual_seed(number))


def make(policy, run=None, *, num_prompts=10, group_size=2, held_out=dark_reward, epoch=0, prompts=PROMPTS, **changes):
    evaluator = Evaluator(
        policy, RewardSet([Reward("red", red)]),
        RewardSet([Reward(held_out.__name__, held_out)] if held_out else []), prompts,
        **(dict(seed=3, batch_size=6) | changes),
    )
    panel = HackingPanel(evaluator, num_prompts=num_prompts, group_size=group_size, guidance_scale=1.0)
    if run:
        run.mkdir(exist_ok=True)
        panel.open(run, epoch)
    return panel


def test_nothing_has_changed_before_training(policy, lora, tmp_path):
    panel = make(policy, tmp_path)
    metrics, alarm = panel.evaluate(1)
    assert alarm is None and metrics["eval/alarm"] == 0
    assert list(metrics) == [f"eval/{name}" for name in [*COLUMNS, "alarm"]]
    assert metrics["eval/similarity_to_base"] == pytest.approx(1.0)
    for name, change in panel.looks[0].changes.items():
        assert change.change == 0 and change.interval == [0, 0], name


def test_columns_are_what_the_pictures_say(policy, lora):
    panel = make(policy, prompts=PROMPTS[:4], num_prompts=6, group_size=2)
    learn(lora)
    metrics, _ = panel.evaluate(1)
    evaluator = panel.evaluator
    # Six places for four prompts: the second picture of each place has the same prompt and another seed.
    indices = [slot + place for slot in range(6) for place in (0, 8)]
    assert [evaluator.prompt(i) for i in indices] == [PROMPTS[slot % 4] for slot in range(6) for _ in range(2)]
    now = evaluator.pictures(indices, 1.0)
    with policy.base_model():
        base = evaluator.pictures(indices, 1.0)
    assert not torch.equal(now, base)
    expected = {
        "reward": red(now, None, None)[0].mean(), "colour_entropy": colour_entropy(now).mean(),
        "saturation": saturation(now).mean(), "similarity_to_base": similarity(now, base).mean(),
        "diversity": diversity(now.unflatten(0, (6, 2))).mean(),
    }
    for name, value in expected.items():
        assert metrics[f"eval/{name}"] == pytest.approx(value.item(), abs=1e-5), name
    change = panel.looks[0].changes["reward"]
    assert change.base == pytest.approx(red(base, None, None)[0].mean().item(), abs=1e-5)
    assert change.change == pytest.approx(change.now - change.base) and change.change != 0


def test_one_picture_a_prompt_is_the_plain_evaluation_without_diversity(policy, lora):
    learn(lora)
    panel = make(policy, group_size=1)
    metrics, _ = panel.evaluate(1)
    assert "eval/diversity" not in metrics
    plain = panel.evaluator.scores(10, 1.0)
    for name in ("reward", "dark_reward"):
        assert metrics[f"eval/{name}"] == pytest.approx(plain.mean(name), abs=1e-6)


def test_the_base_model_is_drawn_once(policy, lora):
    panel = make(policy)
    drawn, pictures = [], panel.evaluator.pictures
    panel.evaluator.pictures = lambda indices, scale: drawn.append(len(indices)) or pictures(indices, scale)
    panel.evaluate(1)
    assert sum(drawn) == 40
    panel.evaluate(2)
    assert sum(drawn) == 60


def test_batches_and_processes_do_not_matter(policy, lora):
    learn(lora)
    whole = make(policy)
    expected, _ = whole.evaluate(1)
    again, _ = make(policy, batch_size=5).evaluate(1)
    rounds: list[list] = [[], []]
    for rank in range(3):  # each process's rows of the base model's round and of the policy's
        calls = iter(rounds)

        def gather(own, calls=calls):
            next(calls).extend(own)
            return [[0] * 8] * 10

        make(policy, process=(rank, 3), gather=gather).evaluate(1)
    calls = iter(rounds)
    split, _ = make(policy, gather=lambda own: next(calls)).evaluate(1)
    for name, value in expected.items():
        assert again[name] == pytest.approx(value, abs=1e-5) and split[name] == pytest.approx(value, abs=1e-5), name


def test_more_processes_than_prompts(policy, lora):
    seen = []
    panel = make(policy, num_prompts=2, process=(2, 3), gather=lambda own: seen.append(own) or [[0] * 8, [1] * 8])
    panel.evaluate(1)
    assert seen == [[], []]


def test_random_rewards_stay_paired_and_training_keeps_its_randomness(policy, lora):
    panel = make(policy, held_out=noisy)
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    panel.evaluate(1)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    change = panel.looks[0].changes["noisy"]
    assert change.change == 0 and 0 < change.base < 1


@pytest.fixture
def spoken(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(rl.monitoring.hacking_panel, "announce", said.append)
    return said


def paint(policy, colour):
    """Every picture of the tuned policy has that colour; the base model's stay."""
    decode = policy.decode

    def painted(latents):
        images = decode(latents)
        on = any(not m.disable_adapters for m in policy.denoiser.modules() if hasattr(m, "lora_A"))
        return torch.tensor(colour).view(1, 3, 1, 1).expand_as(images).clone() if on else images

    policy.decode = painted


def test_all_red_raises_the_alarm_once_by_its_collapse_alone(policy, lora, tmp_path, spoken):
    paint(policy, [1.0, 0.0, 0.0])
    panel = make(policy, tmp_path, held_out=None)
    results = [panel.evaluate(epoch) for epoch in (5, 10, 15)]
    assert [alarm is not None for _, alarm in results] == [False, True, True]
    assert [metrics["eval/alarm"] for metrics, _ in results] == [0, 1, 1]
    assert results[1][1].is_onset and not results[2][1].is_onset
    assert len(spoken) == 1 and "ALARM at epoch 10" in spoken[0] and "20 pictures per side" in spoken[0]
    assert {change.metric for change in results[1][1].fallen} == {"colour_entropy", "edge_density", "diversity"}
    (entry,) = panel.summary()["alarms"]
    assert entry["epoch"] == 10 and set(entry["metrics"]) == {"colour_entropy", "edge_density", "diversity"}
    assert entry["reward"]["interval"][0] > 0
    json.dumps(entry)


def test_all_white_raises_it_by_the_held_out_reward(policy, lora, tmp_path, spoken):
    paint(policy, [1.0, 1.0, 1.0])
    panel = make(policy, tmp_path, group_size=1)
    panel.evaluate(1)
    _, alarm = panel.evaluate(2)
    assert alarm.fallen[0].metric == "dark_reward" and alarm.fallen[0].now == 0


def test_all_black_is_silent_while_it_lowers_the_reward(policy, lora, tmp_path, spoken):
    paint(policy, [0.0, 0.0, 0.0])
    panel = make(policy, tmp_path)
    assert [panel.evaluate(epoch)[1] for epoch in (1, 2)] == [None, None] and not spoken


def test_other_processes_do_not_speak_or_write(policy, lora, tmp_path, spoken):
    paint(policy, [1.0, 0.0, 0.0])
    other = make(policy, process=(1, 2), gather=lambda own: own + [[row[0] - 1, *row[1:]] for row in own])
    other.open(tmp_path, 0)
    other.evaluate(1)
    assert other.evaluate(2)[1] is not None
    assert not spoken and not (tmp_path / PANEL_FILE).exists()


def test_a_resumed_panel_goes_on_where_it_was(policy, lora, tmp_path, spoken):
    paint(policy, [1.0, 0.0, 0.0])
    panel = make(policy, tmp_path)
    for epoch in (1, 2, 3):
        panel.evaluate(epoch)
    whole = (tmp_path / PANEL_FILE).read_bytes()
    resumed = make(policy, tmp_path, epoch=1)
    assert [look.epoch for look in resumed.looks] == [1]
    _, alarm = resumed.evaluate(2)
    assert alarm and alarm.is_onset
    resumed.evaluate(3)
    assert (tmp_path / PANEL_FILE).read_bytes() == whole
    assert make(policy, tmp_path, epoch=0).looks == []


def test_a_foreign_file_is_refused(policy, lora, tmp_path):
    (tmp_path / PANEL_FILE).write_text('{"looks": [{"epoch": 1}]}')
    with pytest.raises(ValueError, match="earlier evaluations.*Move the file away"):
        make(policy, tmp_path, epoch=1)


def test_few_prompts_are_judged_by_their_pictures(policy, lora, tmp_path, spoken):
    assert make(policy, prompts=PROMPTS[:3], num_prompts=9).units == [str(slot) for slot in range(9)]
    assert make(policy, prompts=PROMPTS, num_prompts=12).units[:2] == PROMPTS[:2]
    make(policy, tmp_path, num_prompts=7)
    assert len(spoken) == 1 and "set it to 8 or more" in spoken[0]


def test_a_held_out_reward_may_not_have_the_name_of_a_side_metric(policy):
    evaluator = Evaluator(
        policy, RewardSet([Reward("red", red)]), RewardSet([Reward("saturation", red)]), PROMPTS, seed=0, batch_size=2
    )
    with pytest.raises(ValueError, match="expected other names than those of the side metrics.*'saturation'"):
        HackingPanel(evaluator, num_prompts=8, group_size=1, guidance_scale=1.0)
