import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from rl.lora.adapter import ADAPTER, add_lora, load_lora, save_lora, scaled_lora
from rl.models.stable_diffusion import StableDiffusionPolicy


def with_lora(pipeline, rank=4, alpha=16.0, scale=0.3, **changes):
    parameters = add_lora(
        pipeline.unet, **({"rank": rank, "alpha": alpha, "targets": ["to_q", "to_k", "to_v"], "seed": 0} | changes)
    )
    for number, parameter in enumerate(parameters):
        torch.nn.init.normal_(parameter, std=scale, generator=torch.Generator().manual_seed(number))
    return pipeline


def picture(pipeline):
    policy = StableDiffusionPolicy(pipeline, num_steps=4)
    return policy.decode(policy.rollout(["a red circle"], [7], 3.0).latents[-1]).detach()


def fresh(folder):
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


def test_starts_as_the_base_model(tiny_pipeline):
    before = picture(tiny_pipeline)
    add_lora(tiny_pipeline.unet, rank=4, alpha=8, targets=["to_q"], seed=0)
    assert torch.equal(picture(tiny_pipeline), before)


def test_only_float32_lora_is_trainable_and_seeded(tiny_pipeline_folder):
    pipelines = [fresh(tiny_pipeline_folder) for _ in range(3)]
    state = torch.get_rng_state()
    first, again, other = (
        add_lora(pipeline.unet.to(torch.bfloat16), rank=4, alpha=8, targets=["to_q"], seed=seed)
        for pipeline, seed in zip(pipelines, (0, 0, 1), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.dtype == torch.float32 for parameter in first)
    trained = {name for name, parameter in pipelines[0].unet.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_unknown_targets(tiny_pipeline):
    with pytest.raises(ValueError, match="lora_targets: no layer"):
        add_lora(tiny_pipeline.unet, rank=4, alpha=8, targets=["to_nothing"], seed=0)


ALL_KINDS = ["to_q", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj", "conv_in"]


@pytest.mark.parametrize("targets", [["to_q", "to_k", "to_v"], ALL_KINDS])
def test_round_trip_through_diffusers_with_alpha_not_rank(tiny_pipeline, tiny_pipeline_folder, tmp_path, targets):
    # Of a file in which attention goes by diffusers' old names and the rest by PEFT's, diffusers drops the attention.
    trained = with_lora(tiny_pipeline, targets=targets, scale=0.1)
    expected = picture(trained)
    path = save_lora(trained.unet, type(trained), tmp_path)
    reloaded = fresh(tiny_pipeline_folder)
    assert not torch.allclose(picture(reloaded), expected, atol=1e-3)
    reloaded.load_lora_weights(tmp_path)
    torch.testing.assert_close(picture(reloaded), expected, rtol=1e-5, atol=1e-5)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["lora_adapter_metadata"])["unet.lora_alpha"] == 16.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pytorch_lora_weights.safetensors"]


def test_round_trip_through_our_own_loader_is_exact(tiny_pipeline, tiny_pipeline_folder, tmp_path):
    trained = with_lora(tiny_pipeline)
    save_lora(trained.unet, type(trained), tmp_path)
    other = with_lora(fresh(tiny_pipeline_folder), scale=0.0)
    load_lora(other.unet, type(other), tmp_path)
    for (name, ours), (_, theirs) in zip(
        other.unet.named_parameters(), trained.unet.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert ADAPTER in other.unet.peft_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"rank": 2}, "lora_rank"), ({"alpha": 4.0}, "lora_alpha"), ({"targets": ["to_q"]}, "got other ones")],
)
def test_another_lora_is_refused(tiny_pipeline, tiny_pipeline_folder, tmp_path, changes, message):
    save_lora(with_lora(tiny_pipeline).unet, type(tiny_pipeline), tmp_path)
    other = with_lora(fresh(tiny_pipeline_folder), **changes)
    with pytest.raises(ValueError, match=message):
        load_lora(other.unet, type(other), tmp_path)


def test_missing_weights(tiny_pipeline, tmp_path):
    with pytest.raises(FileNotFoundError, match="pytorch_lora_weights"):
        load_lora(tiny_pipeline.unet, type(tiny_pipeline), tmp_path)


def test_scaled_lora_is_0_the_base_model_and_1_the_lora(tiny_pipeline):
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=2)
    with_lora(tiny_pipeline)

    def picture():
        return policy.rollout(["a red circle"], [0], 1.0).latents[-1]

    whole = picture()
    with policy.base_model():
        base = picture()
    found = {}
    for factor in (0.0, 0.5, 1.0):
        with scaled_lora(tiny_pipeline.unet, factor):
            found[factor] = picture()
    assert torch.equal(found[1.0], whole) and torch.equal(picture(), whole)
    torch.testing.assert_close(found[0.0], base, rtol=0, atol=1e-6)
    assert not torch.equal(found[0.5], whole) and (found[0.5] - base).norm() < (whole - base).norm()
