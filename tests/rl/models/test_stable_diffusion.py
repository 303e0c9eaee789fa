from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from rl.lora.adapter import add_lora
from rl.models.policy import sample_seed
from rl.models.stable_diffusion import StableDiffusionPolicy
from tests.conftest import build_tiny_pipeline, build_tiny_sdxl_pipeline

PROMPTS = ["a red circle", "a blue square", "a red circle", "two green dots"] * 2
SEEDS = [sample_seed(0, 0, i) for i in range(8)]


def make_policy(pipeline, **changes):
    policy = StableDiffusionPolicy(pipeline, **({"num_steps": 5} | changes))
    for parameter in add_lora(pipeline.unet, rank=4, alpha=8, targets=["to_q", "to_v"], seed=0):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    return policy


def new_log_probs(policy, trajectory, guidance):
    conditioning = policy.conditioning(trajectory.prompts, guidance)
    stochastic = [i for i, step in enumerate(policy.steps) if step.is_stochastic]
    return {
        i: policy.log_prob(i, trajectory.latents[i], trajectory.latents[i + 1], conditioning, guidance)
        for i in stochastic
    }


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_ratio_is_exactly_one_before_the_first_update(tmp_path, guidance, kind):
    policy = make_policy(build_tiny_pipeline(tmp_path, prediction_type=kind))
    trajectory = policy.rollout(PROMPTS, SEEDS, guidance)
    for index, new in new_log_probs(policy, trajectory, guidance).items():
        assert new.requires_grad
        assert torch.equal(new.detach(), trajectory.log_probs[index])


def test_ratio_is_one_to_1e_5_at_other_batch_shapes(tiny_pipeline):
    policy = make_policy(tiny_pipeline)
    trajectory = policy.rollout(PROMPTS, SEEDS, 4.0)
    conditioning = policy.conditioning(PROMPTS[:3], 4.0)
    for index in range(4):
        new = policy.log_prob(
            index, trajectory.latents[index, :3], trajectory.latents[index + 1, :3], conditioning, 4.0
        )
        assert (new - trajectory.log_probs[index, :3]).abs().max() <= 1e-5


def test_one_batch_of_eight_equals_two_of_four(tiny_pipeline):
    policy = make_policy(tiny_pipeline)
    whole = policy.rollout(PROMPTS, SEEDS, 3.0)
    parts = policy.empty_trajectory(8, 3.0)
    for start in (0, 4):
        policy.rollout(PROMPTS[start : start + 4], SEEDS[start : start + 4], 3.0, out=parts, start=start)
    assert parts.prompts == whole.prompts == PROMPTS
    assert torch.equal(parts.latents[0], whole.latents[0])
    torch.testing.assert_close(parts.latents, whole.latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts.log_probs, whole.log_probs, rtol=1e-5, atol=1e-5)


def test_noise_depends_on_the_seed_alone(tiny_pipeline):
    policy = make_policy(tiny_pipeline)
    torch.manual_seed(1)
    first = policy.rollout(PROMPTS[:2], SEEDS[:2], 1.0)
    torch.manual_seed(2)
    assert torch.equal(policy.rollout(PROMPTS[:2], SEEDS[:2], 1.0).latents, first.latents)
    other = policy.rollout(PROMPTS[:2], [SEEDS[0], SEEDS[2]], 1.0)
    assert not torch.equal(other.latents[0, 1], first.latents[0, 1])
    assert len({sample_seed(s, e, i) for s in range(4) for e in range(4) for i in range(4)}) == 64
    assert sample_seed(0, 1) != sample_seed(0, 1, 0)


def test_trajectory_follows_diffusers_steps(tiny_pipeline):
    policy = make_policy(tiny_pipeline)
    trajectory = policy.rollout(PROMPTS[:2], SEEDS[:2], 2.5)
    noise = policy._noise(SEEDS[:2])
    conditioning = policy.conditioning(PROMPTS[:2], 2.5)
    latents = noise[0]
    for index, step in enumerate(policy.steps):
        with torch.no_grad():
            output = policy.predict(policy.denoiser, step, latents, conditioning, 2.5)
        latents = policy.scheduler.step(
            output, step.timestep, latents, eta=1.0, variance_noise=noise[index + 1]
        ).prev_sample
        torch.testing.assert_close(trajectory.latents[index + 1], latents, rtol=1e-4, atol=1e-4)


def test_picture_equals_the_pipelines_own(tiny_pipeline):
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=5, eta=0.0, negative_prompt="green")
    trajectory = policy.rollout(PROMPTS[:2], SEEDS[:2], 3.0)
    with torch.no_grad():
        ours = policy.decode(trajectory.latents[-1])
    tiny_pipeline.set_progress_bar_config(disable=True)
    theirs = tiny_pipeline(
        PROMPTS[:2], negative_prompt=["green"] * 2, latents=trajectory.latents[0].clone(), num_inference_steps=5,
        guidance_scale=3.0, output_type="pt",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert ours.shape == (2, 3, 16, 16)
    assert 0 <= ours.min() and ours.max() <= 1


@pytest.fixture(params=["tiny_pipeline", "tiny_sdxl"], ids=["SD", "SDXL"])
def either(request):
    """A pipeline of each family, one after the other."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_ratio_is_exactly_one_for_sdxl(tiny_sdxl, guidance):
    policy = make_policy(tiny_sdxl)
    trajectory = policy.rollout(PROMPTS, SEEDS, guidance)
    for index, new in new_log_probs(policy, trajectory, guidance).items():
        assert new.requires_grad
        assert torch.equal(new.detach(), trajectory.log_probs[index])
    sum(new.sum() for new in new_log_probs(policy, trajectory, guidance).values()).backward()
    for module in (policy.denoiser, policy.vae, tiny_sdxl.text_encoder, tiny_sdxl.text_encoder_2):
        assert not module.training
        for name, parameter in module.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None) == ("lora_" in name), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_ratio_is_one_in_half_precision(either, dtype, guidance):
    policy = make_policy(either.to(dtype))
    # Each by itself, as accelerate wraps the UNet: torch 2.6 keeps weights as autocast has cast them without gradients.
    with torch.autocast("cpu", dtype):
        trajectory = policy.rollout(PROMPTS, SEEDS, guidance)
    assert trajectory.latents.dtype == trajectory.log_probs.dtype == torch.float32
    assert trajectory.log_probs[:4].abs().min() > 0
    with torch.autocast("cpu", dtype):
        for index, new in new_log_probs(policy, trajectory, guidance).items():
            assert (new - trajectory.log_probs[index]).abs().max() < 1e-4
            assert new.requires_grad


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("negative", ["", "green"])
@pytest.mark.parametrize("force_zeros", [True, False])
def test_picture_equals_sdxls_own(tmp_path, guidance, negative, force_zeros):
    pipeline = build_tiny_sdxl_pipeline(tmp_path, force_zeros_for_empty_prompt=force_zeros)
    policy = StableDiffusionPolicy(pipeline, num_steps=5, eta=0.0, negative_prompt=negative)
    trajectory = policy.rollout(PROMPTS[:2], SEEDS[:2], guidance)
    with torch.no_grad():
        ours = policy.decode(trajectory.latents[-1])
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPTS[:2], negative_prompt=[negative] * 2 if negative else None, latents=trajectory.latents[0].clone(),
        num_inference_steps=5, guidance_scale=guidance, output_type="pt",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sdxl_is_told_the_pooled_text_and_the_size(tiny_sdxl):
    policy = StableDiffusionPolicy(tiny_sdxl, num_steps=2, resolution=32)
    conditioning = policy.conditioning(PROMPTS[:3], 4.0)
    assert conditioning.embeddings.shape == (6, 24, 40)
    pooled = conditioning.added["text_embeds"]
    assert pooled.shape == (6, 20) and conditioning.added["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]] * 6
    assert not pooled[:3].any() and not conditioning.embeddings[:3].any()
    assert torch.equal(pooled[3], pooled[5]) and not torch.equal(pooled[3], pooled[4])
    calls = []
    for encoder in (tiny_sdxl.text_encoder, tiny_sdxl.text_encoder_2):
        encoder.register_forward_pre_hook(lambda module, args: calls.append(1))
    again = policy.conditioning(PROMPTS[:3], 1.0)
    assert not calls and torch.equal(again.added["text_embeds"], pooled[3:])
    latents = torch.randn(1, *policy.latent_shape)
    one = policy.conditioning(PROMPTS[:1], 1.0)
    with torch.no_grad():
        output = policy.predict(policy.denoiser, policy.steps[0], latents, one, 1.0)
        for name in one.added:
            moved = replace(one, added=one.added | {name: one.added[name] + 1})
            assert (policy.predict(policy.denoiser, policy.steps[0], latents, moved, 1.0) - output).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_sdxls_vae_decodes_in_float32_where_it_would_overflow(tiny_sdxl, dtype, expected):
    policy = StableDiffusionPolicy(tiny_sdxl.to(dtype), num_steps=2)
    seen = []
    policy.vae.decoder.register_forward_pre_hook(lambda module, args: seen.append((module.conv_in.weight.dtype,
                                                                                  args[0].dtype)))
    picture = policy.decode(torch.randn(1, *policy.latent_shape))
    assert seen == [(expected, expected)] and picture.dtype == torch.float32
    assert policy.denoiser.dtype == tiny_sdxl.text_encoder_2.dtype == dtype


@pytest.mark.parametrize(("guidance", "rows"), [(1.0, 2), (0.0, 2), (4.0, 4)])
def test_unet_is_called_once_a_step(tiny_pipeline, guidance, rows):
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=5)
    calls = []
    policy.denoiser.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    policy.rollout(PROMPTS[:2], SEEDS[:2], guidance)
    assert calls == [rows] * 5


def test_each_text_is_encoded_once(tiny_pipeline, monkeypatch):
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=2)
    calls = []
    policy.pipeline.text_encoder.register_forward_pre_hook(lambda module, args: calls.append(1))
    for _ in range(2):
        policy.rollout(PROMPTS, SEEDS, 3.0)
    assert len(calls) == 4  # three texts and the negative one
    monkeypatch.setattr("rl.models.conditioning._PROMPT_CACHE_SIZE", 2)
    embeddings = policy.conditioning(["x", "y", "z", "x"], 1.0).embeddings
    assert torch.equal(embeddings[0], embeddings[3])
    assert embeddings.shape == (4, 24, 16)


def test_latents_and_log_probs_are_float32_under_half_precision(tiny_pipeline):
    tiny_pipeline.to(dtype=torch.bfloat16)
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=3)
    with torch.autocast("cpu", torch.bfloat16):
        trajectory = policy.rollout(PROMPTS[:2], SEEDS[:2], 3.0)
    assert trajectory.latents.dtype == trajectory.log_probs.dtype == torch.float32
    assert policy.decode(trajectory.latents[-1]).dtype == torch.float32


def test_unguided_log_probs_of_a_guided_rollout(tiny_pipeline):
    policy = make_policy(tiny_pipeline)
    trajectory = policy.rollout(PROMPTS, SEEDS, 4.0, log_prob_guidance=1.0)
    for index, new in new_log_probs(policy, trajectory, 1.0).items():
        assert torch.equal(new.detach(), trajectory.log_probs[index])


def test_base_model_is_the_model_without_lora(tiny_pipeline):
    plain = StableDiffusionPolicy(tiny_pipeline, num_steps=5).rollout(PROMPTS, SEEDS, 2.0).latents
    policy = make_policy(tiny_pipeline)
    with policy.base_model():
        off = policy.rollout(PROMPTS, SEEDS, 2.0).latents
    assert torch.equal(off, plain)
    assert not torch.equal(policy.rollout(PROMPTS, SEEDS, 2.0).latents, plain)


def test_distance_to_base_is_that_of_the_outputs(tiny_pipeline):
    policy = make_policy(tiny_pipeline)
    parameters = [parameter for parameter in policy.denoiser.parameters() if parameter.requires_grad]
    latents, conditioning = torch.randn(2, *policy.latent_shape), policy.conditioning(PROMPTS[:2], 2.0)
    distance = policy.distance_to_base(1, latents, conditioning, 2.0)
    with policy.base_model(), torch.no_grad():
        base = policy.predict(policy.denoiser, policy.steps[1], latents, conditioning, 2.0)
    tuned = policy.predict(policy.denoiser, policy.steps[1], latents, conditioning, 2.0)
    assert distance.item() == pytest.approx((tuned - base).square().mean().item()) and distance.item() > 0
    distance.backward()
    assert any(parameter.grad.abs().max() > 0 for parameter in parameters)
    for parameter in parameters:
        parameter.data.zero_()
    assert policy.distance_to_base(1, latents, conditioning, 2.0).item() == 0


def test_only_the_lora_has_gradients(tiny_pipeline):
    policy = make_policy(tiny_pipeline)
    trajectory = policy.rollout(PROMPTS, SEEDS, 1.0)
    sum(new.sum() for new in new_log_probs(policy, trajectory, 1.0).values()).backward()
    for module in (policy.denoiser, policy.vae, tiny_pipeline.text_encoder):
        for name, parameter in module.named_parameters():
            assert (parameter.grad is not None) == ("lora_" in name), name


def test_resolution(tiny_pipeline):
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=2, resolution=32)
    assert policy.decode(policy.rollout(["x"], [1], 1.0).latents[-1]).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="multiple of 4 for this model, got 30"):
        StableDiffusionPolicy(tiny_pipeline, num_steps=2, resolution=30)


def test_as_many_seeds_as_prompts(tiny_pipeline):
    with pytest.raises(ValueError, match="2 prompts and 1 seeds"):
        StableDiffusionPolicy(tiny_pipeline, num_steps=2).rollout(["x", "y"], [1], 1.0)
