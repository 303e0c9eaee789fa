import sys
import time
import types

import pytest
import torch

from rl.rewards.loading import NonFiniteRewardError, Reward, RewardSet, RewardTimeoutError, load_rewards, normalized_sum

IMAGES = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a", "b", "c"]


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "reward_source.py").write_text(
        "def red(images, prompts, metadata):\n"
        "    assert isinstance(prompts, tuple) and metadata == ({},) * len(prompts)\n"
        "    return images[:, 0].mean((1, 2)), {}\n"
        "def length(images, prompts, metadata): return [len(p) for p in prompts]\n"
        "def judge(source, device=None):\n"
        "    value = float((source, device) == ('/weights/eyes', 'cpu'))\n"
        "    return lambda images, prompts, metadata: [value] * len(prompts)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_weighted_sum_and_parts(module):
    rewards = load_rewards(["reward_source:red=2", "reward_source:length"])
    total, parts = rewards(IMAGES, PROMPTS)
    assert rewards.names == ["red", "length"]
    torch.testing.assert_close(parts["red"], IMAGES[:, 0].mean((1, 2)))
    torch.testing.assert_close(total, 2 * parts["red"] + 1)


def test_a_factory_gets_its_source_and_the_device(module):
    resolve = {"tinyworld:eyes": "/weights/eyes"}.__getitem__
    rewards = load_rewards(["reward_source:judge@tinyworld:eyes=3"], device="cpu", resolve=resolve)
    assert rewards.names == ["judge"]
    assert rewards(IMAGES, PROMPTS)[0].tolist() == [3.0] * 3


def test_hyperalign_folder_is_resolved(monkeypatch):
    seen = {}

    class Stub:
        @classmethod
        def from_pretrained(cls, folder, device=None):
            seen.update(folder=folder, device=device)
            return cls()

        def ddpo(self):
            return lambda images, prompts, metadata: (torch.ones(len(prompts)), {})

    stub = types.ModuleType("reward.hyperalign_reward")
    stub.HyperAlignReward = Stub
    monkeypatch.setitem(sys.modules, "reward.hyperalign_reward", stub)
    names = load_rewards(["hyperalign:models/one/", "hyperalign:someone/two=2"]).names
    assert names == ["one", "two"]
    rewards = load_rewards(["hyperalign:tinyworld:x=0.5"], device="cpu", resolve=lambda name: f"/weights/{name}")
    assert rewards.names == ["x"]
    assert rewards(IMAGES, PROMPTS)[0].tolist() == [0.5] * 3
    assert seen == {"folder": "/weights/tinyworld:x", "device": "cpu"}
    load_rewards(["hyperalign:tinyworld"], resolve=lambda name: f"/weights/{name}")
    assert seen["folder"] == "/weights/tinyworld:hyperalign"


def test_an_open_clip_model_is_its_cosine_under_its_own_name(monkeypatch):
    class Stub:
        @classmethod
        def from_backbone(cls, name, pretrained=None, device=None):
            assert (name, pretrained, device) == ("ViT-B-16", "openai", "cpu")
            return cls()

        def ddpo(self):
            return lambda images, prompts, metadata: (torch.ones(len(prompts)), {})

    stub = types.ModuleType("reward.hyperalign_reward")
    stub.HyperAlignReward = Stub
    monkeypatch.setitem(sys.modules, "reward.hyperalign_reward", stub)
    assert load_rewards(["hyperalign:ViT-B-16/openai=2"], device="cpu").names == ["ViT-B-16"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("reward_source:red=much", "expected a number after '=' in 'reward_source:red=much', got 'much'"),
        ("reward_source:blue", "has no function 'blue'"),
        ("reward_source", "expected module:function"),
    ],
)
def test_bad_specs(module, spec, message):
    with pytest.raises(ValueError) as caught:
        load_rewards([spec])
    assert message in str(caught.value)


def test_same_name_twice(module):
    with pytest.raises(ValueError, match="different names"):
        load_rewards(["reward_source:red", "reward_source:red=2"])


@pytest.mark.parametrize("shape", [(), (2,), (3, 1)])
def test_wrong_shape(shape):
    rewards = RewardSet([Reward("odd", lambda images, prompts, metadata: (torch.zeros(shape), {}))])
    with pytest.raises(ValueError, match=r"'odd' to return shape \(3,\)"):
        rewards(IMAGES, PROMPTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite(value):
    rewards = RewardSet([Reward("bad", lambda images, prompts, metadata: (torch.tensor([0.0, value, 1.0]), {}))])
    with pytest.raises(NonFiniteRewardError, match="1 of 3 pictures, first for prompt 'b'") as caught:
        rewards(IMAGES, PROMPTS)
    assert caught.value.prompts == ("a", "b", "c")
    assert caught.value.images.shape == IMAGES.shape


@pytest.mark.parametrize("values", [["good", "bad"], None, [[0.1], [0.2, 0.3]]])
def test_what_is_no_number_is_named(values):
    with pytest.raises(ValueError, match="Expected reward 'poet' to return 2 numbers, one per picture, got"):
        RewardSet([Reward("poet", lambda *_: (values, {}))])(torch.rand(2, 3, 4, 4), ["a", "b"])


def test_normalized_sum_gives_rewards_of_any_scale_an_equal_say():
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(12, 2, generator=generator)
    scaled = parts * torch.tensor([1.0, 1e4]) + torch.tensor([0.0, -3e4])
    for group in (12, 4):
        mine = normalized_sum(scaled, [1.0, 2.0], group)
        torch.testing.assert_close(mine, normalized_sum(parts, [1.0, 2.0], group), rtol=0, atol=1e-3)
        rows = parts.view(-1, group, 2)
        unit = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True, unbiased=False)
        torch.testing.assert_close(mine, (unit[..., 0] + 2 * unit[..., 1]).flatten(), rtol=0, atol=1e-3)


def test_normalized_sum_of_a_constant_reward_is_0():
    parts = torch.tensor([[0.1, 5.0], [0.1, 7.0]])
    assert normalized_sum(parts, [100.0, 1.0], 2).tolist() == [-1.0, 1.0]


def test_min_is_the_smallest_weighted_reward(module):
    specs = ["reward_source:red=2", "reward_source:length=0.5"]
    total, parts = load_rewards(specs, aggregation="min")(IMAGES, PROMPTS)
    assert torch.equal(total, torch.minimum(2 * parts["red"], 0.5 * parts["length"]))


def test_a_reward_that_hangs_is_an_error_after_its_time():
    def hangs(images, prompts, metadata):
        time.sleep(60)

    rewards = RewardSet([Reward("slow", hangs)], timeout=0.1)
    with pytest.raises(RewardTimeoutError, match="Expected reward 'slow' to answer for 2 pictures .* = 0.1 s"):
        rewards(torch.rand(2, 3, 4, 4), ["a", "b"])


def test_a_rewards_own_timeout_is_its_own_error():
    def fails(images, prompts, metadata):
        raise TimeoutError("the server's own words")

    with pytest.raises(TimeoutError, match="the server's own words") as caught:
        RewardSet([Reward("slow", fails)], timeout=60)(torch.rand(1, 3, 4, 4), ["a"])
    assert not isinstance(caught.value, RewardTimeoutError)


def test_with_a_time_limit_gradients_flow_and_stop_as_without(module):
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    rewards = RewardSet([Reward("mean", lambda images, *_: images.mean((1, 2, 3)))], keep_graph=True, timeout=60)
    rewards(images, ["a", "b"])[0].sum().backward()
    assert images.grad.abs().sum() > 0
    with torch.no_grad():
        assert not RewardSet([Reward("mean", lambda images, *_: images.sum((1, 2, 3)))], timeout=60)(
            images, ["a", "b"]
        )[0].requires_grad
