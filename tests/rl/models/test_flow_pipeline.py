"""Flow-matching pipelines of nine families, tiny and random, as policies: what rollouts and training passes promise."""

import copy

import pytest
import torch

from rl.config.forward_config import NFTConfig
from rl.lora.adapter import add_lora, load_lora, save_lora
from rl.models.flow_pipeline import FlowPolicy
from rl.sampling.step import log_prob
from tests.rl.models.flow_pipelines import BUILDERS, RESOLUTIONS, build

PROMPTS = ["a red ring", "two blue squares"]
SEEDS = [3, 4]


@pytest.fixture(scope="module", params=BUILDERS)
def built(request, tmp_path_factory):
    """A family's name and its pipeline; tests take copies of it."""
    return request.param, build(request.param, tmp_path_factory.mktemp(request.param))


def policy_of(built, **options):
    name, pipeline = built
    return FlowPolicy(copy.deepcopy(pipeline), **{"num_steps": 3, "resolution": RESOLUTIONS[name]} | options)


def own_call(name, pipeline, guidance, **options):
    """The pipeline as a user calls it: latents of every step in the scheduler's form, the first one, and pictures."""
    kept, first = [], []

    def keep(pipeline, index, timestep, given):
        kept.append(given["latents"])
        return {}

    def look(module, given, asked):
        value = {**dict(enumerate(given)), **asked}
        value = value["x"] if "x" in value else value.get("hidden_states", value.get(0))
        value = torch.stack(value).squeeze(2) if isinstance(value, list) else value
        first.append(value[: len(PROMPTS)].clone())

    size = RESOLUTIONS[name]
    scale = "true_cfg_scale" if name in ("flux", "qwen_image") else "guidance_scale"
    # Z-Image means 0 by no guidance, the others 1.
    options[scale] = guidance or (0.0 if name == "z_image" else 1.0)
    if guidance and name != "flux2_klein":
        options["negative_prompt"] = ["dull"] * len(PROMPTS)
    if name == "sana":
        options["use_resolution_binning"] = False
    hook = pipeline.transformer.register_forward_pre_hook(look, with_kwargs=True)
    images = pipeline(
        prompt=list(PROMPTS), height=size, width=size, num_inference_steps=3, output_type="pt",
        generator=torch.Generator().manual_seed(0), callback_on_step_end=keep, **options,
    ).images  # fmt: skip
    hook.remove()
    return first[0], kept[-1], images


@pytest.mark.parametrize("guidance", [0.0, 3.5], ids=["alone", "guided"])
def test_a_rollout_is_the_pipelines_own_picture(built, guidance, monkeypatch):
    name, _ = built
    policy = policy_of(built, negative_prompt="" if name == "flux2_klein" else "dull")
    noise, last, images = own_call(name, copy.deepcopy(policy.pipeline), guidance)
    drawn = policy._noise(SEEDS)
    drawn[0] = noise
    monkeypatch.setattr(policy, "_noise", lambda seeds: drawn)
    trajectory = policy.rollout(PROMPTS, SEEDS, guidance, log_probs=False)
    torch.testing.assert_close(trajectory.latents[-1], last, rtol=0, atol=1e-5)
    torch.testing.assert_close(policy.decode(trajectory.latents[-1]), images, rtol=0, atol=1e-5)
    assert images.std() > 1e-2, "a picture of one colour would show nothing"


@pytest.mark.parametrize("guidance", [0.0, 3.5], ids=["alone", "guided"])
def test_text_tokens_are_as_many_as_the_config_says(tmp_path, monkeypatch, guidance):
    policy = FlowPolicy.from_config(
        build("sd3", tmp_path),
        NFTConfig(sample_num_steps=3, max_sequence_length=5, resolution=RESOLUTIONS["sd3"], negative_prompts="dull"),
    )
    fewer, more = (
        own_call("sd3", copy.deepcopy(policy.pipeline), guidance, **options)[:2]
        for options in ({"max_sequence_length": 5}, {})
    )
    drawn = policy._noise(SEEDS)
    drawn[0] = fewer[0]
    monkeypatch.setattr(policy, "_noise", lambda seeds: drawn)
    last = policy.rollout(PROMPTS, SEEDS, guidance, log_probs=False).latents[-1]
    torch.testing.assert_close(last, fewer[1], rtol=0, atol=1e-5)
    assert torch.equal(fewer[0], more[0]) and (fewer[1] - more[1]).abs().max() > 1e-3


def with_lora(policy):
    # It has to matter, or a LoRA that is left out would go unseen.
    for parameter in add_lora(policy.denoiser, rank=2, alpha=4, targets=policy.lora_targets, seed=0):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return policy


def test_ratios_before_the_first_update_are_exactly_one(built):
    sampler = {"sd3": "dance", "flux": "cps"}.get(built[0], "sde")
    policy = with_lora(policy_of(built, sampler=sampler, noise_level=0.4))
    prompts = [PROMPTS[1], PROMPTS[0], PROMPTS[1]]
    trajectory = policy.rollout(prompts, [1, 2, 3], 1.0)
    conditioning = policy.conditioning(prompts, 1.0)
    assert [step.is_stochastic for step in policy.steps] == [True, True, False]
    for index in (0, 1):
        mean = policy.means([index], trajectory.latents[index][None], conditioning, 1.0)[0]
        assert mean.requires_grad
        new = log_prob(policy.steps[index], mean, trajectory.latents[index + 1])
        assert torch.equal(new.detach(), trajectory.log_probs[index]) and new.abs().min() > 0
    # Two steps in one pass, at levels of their own.
    both = policy.means([0, 1], trajectory.latents[:2], policy.conditioning(prompts * 2, 1.0), 1.0)
    torch.testing.assert_close(both[1], mean, rtol=1e-4, atol=1e-5)


def test_the_clean_prediction_is_what_the_pipelines_step_implied(built):
    name, _ = built
    policy = policy_of(built)
    scheduler, seen = policy.pipeline.scheduler, []
    own = scheduler.step

    def step(model_output, timestep, sample, **options):
        seen.append((sample.clone(), sample - scheduler.sigmas[len(seen)] * model_output))
        return own(model_output, timestep, sample, **options)

    scheduler.step = step
    own_call(name, policy.pipeline, 0.0)
    del scheduler.step
    # Texts are encoded in one order; the pipeline was given this one.
    conditioning = policy.conditioning(PROMPTS, 1.0)
    assert len(seen) == len(policy.steps)
    for recorded, (sample, implied) in zip(policy.steps, seen, strict=True):
        clean = policy.predict_clean(recorded.level, sample, conditioning, 1.0)
        assert torch.equal(clean, implied)
        levels = torch.full((2,), recorded.level)
        assert torch.equal(policy.predict_clean(levels, sample, conditioning, 1.0), implied)


def test_rows_with_levels_of_their_own_and_repeated_prompts(built):
    policy = policy_of(built)
    latents = torch.randn(4, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.9, 0.1, 0.5, 0.3])
    many = policy.predict_clean(levels, latents, policy.conditioning([*PROMPTS] * 2, 1.0), 1.0)
    for row in range(4):
        # Beside the same two texts: some families pad to the longest.
        pair = policy.conditioning(PROMPTS, 1.0)
        alone = policy.predict_clean(levels[row].item(), latents[[row, row]], pair, 1.0)[row % 2]
        torch.testing.assert_close(many[row], alone, rtol=1e-4, atol=1e-5)
    noise = torch.ones_like(latents)
    noised = policy.add_noise(latents, noise, levels)
    torch.testing.assert_close(noised[1], 0.9 * latents[1] + 0.1)
    assert policy.noise_scale(levels, latents).flatten().tolist() == levels.tolist()
    assert policy.level_at(torch.tensor([0.0, 0.4, 1.0])).tolist() == pytest.approx([0.001, 0.4, 1.0])


def test_noise_depends_on_the_seed_alone(built):
    policy = policy_of(built, sampler="sde", window=(0.0, 0.4))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    whole = policy.rollout(PROMPTS, SEEDS, 1.0)
    assert torch.equal(torch.get_rng_state(), before)
    parts = policy.empty_trajectory(2, 1.0)
    for row in range(2):
        policy.rollout(PROMPTS[row : row + 1], SEEDS[row : row + 1], 1.0, out=parts, start=row)
    assert torch.equal(parts.latents[0], whole.latents[0])
    torch.testing.assert_close(parts.latents, whole.latents, rtol=1e-3, atol=1e-4)
    half = policy.rollout(PROMPTS, SEEDS, 1.0, log_probs=False, num_steps=1)
    assert torch.equal(half.latents[2:], policy._noise(SEEDS)[2:])
    plain = policy.rollout(PROMPTS, SEEDS, 1.0, log_probs=False)
    assert not torch.equal(plain.latents[1], whole.latents[1]) and not plain.log_probs.any()


def test_a_lora_goes_to_plain_diffusers_and_back(built, tmp_path):
    name, pipeline = built
    policy = with_lora(policy_of(built))
    base = own_call(name, policy_of(built).pipeline, 0.0)
    save_lora(policy.denoiser, type(policy.pipeline), tmp_path)
    plain = copy.deepcopy(pipeline)
    plain.scheduler = policy.pipeline.scheduler
    plain.load_lora_weights(tmp_path)
    noise, last, images = own_call(name, plain, 0.0)
    drawn = policy._noise(SEEDS)
    drawn[0] = noise
    policy._noise = lambda seeds: drawn
    trajectory = policy.rollout(PROMPTS, SEEDS, 1.0, log_probs=False)
    torch.testing.assert_close(policy.decode(trajectory.latents[-1]), images, rtol=0, atol=1e-5)
    assert (base[1] - last).abs().max() > 1e-4
    with policy.base_model():
        off = policy.rollout(PROMPTS, SEEDS, 1.0, log_probs=False)
    torch.testing.assert_close(off.latents[-1], base[1], rtol=0, atol=1e-5)
    again = policy_of(built)
    add_lora(again.denoiser, rank=2, alpha=4, targets=again.lora_targets, seed=1)
    load_lora(again.denoiser, type(again.pipeline), tmp_path)
    own, saved = (p.denoiser.state_dict() for p in (policy, again))
    assert all(torch.equal(value, saved[key]) for key, value in own.items())


def test_the_gradient_through_decoding_is_the_slope(built):
    policy = policy_of(built)
    policy.pipeline.vae.double().decoder.conv_out.weight.data.mul_(0.2)  # no pixel saturates
    # Numbers of few binary digits: a small step away from them is exact in float32, which some pipelines insist on.
    random = torch.Generator().manual_seed(1)
    latents, direction = (torch.randint(-8, 9, (1, *policy.latent_shape), generator=random) / 16 for _ in range(2))

    def value(given):
        return policy.decode(given).square().mean()

    latents.requires_grad_()
    value(latents).backward()
    with torch.no_grad():
        inside = policy.decode(latents)
        up, down = (value(latents + sign * 2**-10 * direction).item() for sign in (1, -1))
    slope = (latents.grad * direction).sum().item()
    assert latents.grad.abs().max() > 0
    # Where a pixel is saturated the straight-through clamp has a gradient that the clamp has not.
    assert 0 < inside.min() and inside.max() < 1
    assert (up - down) * 2**9 == pytest.approx(slope, rel=3e-2, abs=1e-6)


def test_every_lora_weight_has_a_gradient_where_processes_wait_for_it(tmp_path):
    from torch.nn.parallel import DistributedDataParallel

    policy = with_lora(policy_of(("qwen_image", build("qwen_image", tmp_path))))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        policy.trained = DistributedDataParallel(policy.denoiser)
        latents, conditioning = torch.randn(2, *policy.latent_shape), policy.conditioning(PROMPTS, 1.0)
        for _ in range(2):  # a missing gradient is noticed at the next pass
            policy.predict_clean(0.5, latents, conditioning, 1.0).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(p.grad is not None for p in policy.denoiser.parameters() if p.requires_grad)
