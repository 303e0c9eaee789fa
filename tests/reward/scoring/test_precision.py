"""What each precision does to the towers and the scores, and what auto asks of the machine."""

import pickle

import pytest
import torch

from reward import HyperAlignReward
from reward.scoring.precision import DTYPES, fast_dtype, set_precision
from reward.scoring.score import model_digest

PROMPTS = ["a red circle", "a blue square", "a green triangle"] * 3


@pytest.fixture
def images():
    return torch.rand(9, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_scores_stay_near_those_of_float32(reward, images, dtype):
    plain, digest = reward(images, PROMPTS), model_digest(reward)
    assert set_precision(reward, dtype) == dtype
    found = reward(images, PROMPTS)
    assert found.dtype == torch.float32 and not torch.equal(found, plain)
    assert (found - plain).abs().max() < 0.05 * max(1.0, plain.abs().max().item())
    # a part that was scored in another precision is not taken
    assert model_digest(reward) != digest
    assert next(reward.head.parameters()).dtype == torch.float32


def test_int8_needs_no_fixed_batch_and_no_other_pictures(reward, images):
    set_precision(reward, "int8")
    whole = reward(images, PROMPTS)
    alone = torch.cat([reward(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(9)])
    # the float32 parts round by batch and threads
    assert torch.allclose(whole, alone, atol=1e-4)


def test_a_gradient_is_computed_in_float32(reward, images):
    plain = images.clone().requires_grad_()
    reward(plain, PROMPTS).sum().backward()
    set_precision(reward, "int8")
    pixels = images.clone().requires_grad_()
    reward(pixels, PROMPTS).sum().backward()
    assert torch.equal(pixels.grad, plain.grad)


def test_changed_weights_are_no_longer_in_8_bits(reward):
    set_precision(reward, "int8")
    assert reward.backbone.int8 is not None and pickle.loads(pickle.dumps(reward.backbone)).int8 is None
    reward.backbone.load_state_dict(reward.backbone.state_dict())
    assert reward.backbone.int8 is None
    set_precision(reward, "int8")
    reward.to(torch.float64)
    assert reward.backbone.int8 is None


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ({"avx512_bf16": True}, "bfloat16"), ({"amx_tile": True}, "bfloat16"), ({"bf16": True}, "bfloat16"),
        ({"avx2": True, "avx512_vnni": True, "avx512_bf16": False}, "float32"),
    ],
)  # fmt: skip
def test_auto_asks_the_machine(reward, monkeypatch, found, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert fast_dtype("cpu") == wanted == set_precision(reward, "auto")
    assert reward.backbone.dtype == getattr(torch, wanted)


def test_auto_on_a_gpu_takes_units_and_not_their_emulation(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation))
    assert fast_dtype("cuda") == "float32" and asked == [False]


def test_wrong_names_and_devices(reward, monkeypatch):
    with pytest.raises(ValueError, match="Expected a dtype of auto, float32, .* but got 'fp8'"):
        set_precision(reward, "fp8")
    monkeypatch.setattr(type(reward.backbone), "device", property(lambda self: torch.device("cuda")))
    with pytest.raises(ValueError, match="Expected a CPU for int8 but the model is on cuda"):
        set_precision(reward, "int8")


def test_the_command_offers_what_there_is():
    from reward.cli.arguments import build_parser

    for dtype in DTYPES:
        assert build_parser().parse_args(["score", "x", "--dtype", dtype]).dtype == dtype
    assert build_parser().parse_args(["rank", "x", "--prompt", "p"]).dtype == "float32"


def test_a_tower_that_8_bits_change_is_refused(reward, monkeypatch):
    monkeypatch.setattr("reward.backbone.int8._LEAST_COSINE", 1.1)
    with pytest.raises(ValueError, match="their cosine is .*; use --dtype bfloat16 or float32"):
        set_precision(reward, "int8")
    assert isinstance(reward, HyperAlignReward) and reward.backbone.int8 is None
