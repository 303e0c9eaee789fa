import contextlib
import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from rl.config.direct_config import DirectConfig
from rl.lora.adapter import add_lora
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.rewards.loading import Reward, RewardSet
from rl.sampling.ddim import clean_prediction, step_mean
from rl.updates.direct import DirectUpdate
from rl.updates.experience import SampledBatch

PROMPTS = ["a red circle", "a blue square"]
SEEDS = [11, 12]
METHODS = ["refl", "draft", "draft-lv", "alignprop"]


def colour(images, prompts, metadata):
    # Smooth, of every pixel, and different for the two prompts.
    weights = torch.linspace(-1, 1, images[0].numel(), dtype=images.dtype).view_as(images[0])
    signs = torch.tensor([1.0 if "red" in prompt else -1.0 for prompt in prompts], dtype=images.dtype)
    return signs * (weights * images.sin()).mean((1, 2, 3)), {}


def make_update(pipeline, steps=4, **changes):
    settings = dict(sample_num_steps=steps, sample_guidance_scale=1.0, sample_batch_size=2,
                    sample_num_batches_per_epoch=1, train_max_grad_norm=1e9)  # fmt: skip
    config = DirectConfig(**(settings | changes))
    policy = StableDiffusionPolicy(pipeline, num_steps=config.sample_num_steps)
    parameters = add_lora(pipeline.unet, rank=4, alpha=8, targets=["to_q", "to_v"], seed=0)
    for number, parameter in enumerate(parameters):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    return DirectUpdate(config, policy, Accelerator(cpu=True), optimizer)


def make_batch(update, prompts=PROMPTS, seeds=SEEDS, reward=colour):
    rewards = RewardSet([Reward("colour", reward)], keep_graph=True)

    def score(images, texts):
        total, parts = rewards(images, texts)
        return torch.stack([total, *parts.values()], dim=1)

    trajectory = update.policy.empty_trajectory(len(prompts), update.config.sample_guidance_scale)
    return SampledBatch([*prompts], [*seeds], trajectory, 0, lambda part: contextlib.nullcontext(), score, score)


def gradients(update, batch=None):
    """What the optimiser would step along, and the batch."""
    batch, seen = batch or make_batch(update), []
    handle = update.optimizer.register_step_pre_hook(
        lambda *args: seen.extend(parameter.grad.clone() for parameter in update.parameters)
    )
    update.sample(batch)
    handle.remove()
    return seen, batch


def backprop_by_hand(update, first):
    """The same loss written down at once: every step of a fresh trajectory, those from `first` on with a graph."""
    policy, guidance = update.policy, update.config.sample_guidance_scale
    noise = policy._noise(SEEDS)
    conditioning = policy.conditioning(PROMPTS, guidance)
    latents = noise[0]
    for index, step in enumerate(policy.steps):
        with contextlib.nullcontext() if index >= first else torch.no_grad():
            output = policy.predict(policy.denoiser, step, latents, conditioning, guidance)
            latents = step_mean(step, output, latents) + step.sigma * noise[index + 1]
    loss = -colour(policy.decode(latents), PROMPTS, ())[0].mean()
    return torch.autograd.grad(loss, update.parameters)


def assert_close(first, second, tolerance=1e-5):
    one, two = (torch.cat([part.flatten() for part in parts]) for parts in (first, second))
    assert two.norm() > 0
    assert (one - two).norm() <= tolerance * two.norm()


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(("steps", "first"), [(0, 0), (4, 0), (1, 3), (3, 1)])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_draft_is_backpropagation_through_the_last_steps(tiny_pipeline, steps, first, guidance, checkpointing):
    update = make_update(
        tiny_pipeline, backprop_steps=steps, train_step_checkpointing=checkpointing, sample_guidance_scale=guidance
    )
    assert_close(gradients(update)[0], backprop_by_hand(update, first))


def test_only_the_backward_pass_of_a_checkpointed_step_records_a_graph(tiny_pipeline):
    update, recorded = make_update(tiny_pipeline, backprop_steps=3), []
    update.policy.denoiser.register_forward_pre_hook(lambda *args: recorded.append(torch.is_grad_enabled()))
    gradients(update)
    assert recorded == [False] * 4 + [True] * 3


def test_gradient_agrees_with_finite_differences_in_float64(tiny_pipeline):
    for module in (tiny_pipeline.unet, tiny_pipeline.vae, tiny_pipeline.text_encoder):
        module.double()
    update = make_update(tiny_pipeline, steps=3, backprop_steps=0)
    for parameter in update.parameters:
        parameter.data = parameter.data.double()
    # The clamp's gradient is not the clamp's: keep every pixel inside.
    with torch.no_grad():
        tiny_pipeline.vae.decoder.conv_out.weight.mul_(0.1)
    batch = make_batch(update)
    batch.trajectory.latents = batch.trajectory.latents.double()
    found, _ = gradients(update, batch)
    directions = [torch.randn(p.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
                  for i, p in enumerate(update.parameters)]  # fmt: skip
    expected = sum((gradient * direction).sum() for gradient, direction in zip(found, directions, strict=True)).item()

    def loss(shift):
        with torch.no_grad():
            for parameter, direction in zip(update.parameters, directions, strict=True):
                parameter.add_(shift * direction)
            value = -make_and_score(update)
            for parameter, direction in zip(update.parameters, directions, strict=True):
                parameter.sub_(shift * direction)
        return value

    step = 1e-5
    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(expected, rel=1e-6)


def make_and_score(update):
    policy, conditioning = update.policy, update.policy.conditioning(PROMPTS, 1.0)
    noise = policy._noise(SEEDS)
    latents = noise[0].double()
    for index, step in enumerate(policy.steps):
        output = policy.predict(policy.denoiser, step, latents, conditioning, 1.0)
        latents = step_mean(step, output, latents) + step.sigma * noise[index + 1]
    return colour(policy.decode(latents), PROMPTS, ())[0].mean().item()


def test_refl_is_autograd_on_its_one_step(tiny_pipeline):
    update = make_update(tiny_pipeline, steps=5, method="refl", refl_window=[0.4, 0.4])
    found, batch = gradients(update)
    rollout = update.policy.rollout(PROMPTS, SEEDS, 1.0)
    step, latents = update.policy.steps[2], rollout.latents[2]
    output = update.policy.predict(update.policy.denoiser, step, latents, update.policy.conditioning(PROMPTS, 1.0), 1.0)
    images = update.policy.decode(clean_prediction(step, output, latents))
    loss = -colour(images, PROMPTS, ())[0].mean()
    assert_close(found, torch.autograd.grad(loss, update.parameters))
    torch.testing.assert_close(batch.images, images.detach())


def test_refl_draws_its_step_in_the_window(tiny_pipeline):
    update = make_update(tiny_pipeline, steps=10, method="refl", refl_window=[0.7, 1.0])
    drawn = {update._first_step(np.random.default_rng(seed)) for seed in range(50)}
    assert drawn == {7, 8, 9}


def test_alignprop_draws_once_a_trajectory(tiny_pipeline):
    plain = copy.deepcopy(tiny_pipeline)
    update = make_update(tiny_pipeline, steps=4, method="alignprop")
    seen = set()
    for seed in range(12):
        seeds = [seed, 100 + seed]
        found, _ = gradients(update, make_batch(update, seeds=seeds))
        depth = int(update.step(0, None)["backprop_steps"])
        seen.add(depth)
        reference = make_update(copy.deepcopy(plain), steps=4, backprop_steps=depth)
        assert_close(found, gradients(reference, make_batch(reference, seeds=seeds))[0])
    assert seen == {1, 2, 3, 4}


def test_draft_lv_is_the_mean_over_its_copies(tiny_pipeline):
    update = make_update(tiny_pipeline, method="draft-lv", draft_lv_samples=3)
    found, batch = gradients(update)
    assert batch.images.shape[0] == 2 and batch.scores.shape == (2, 2)
    policy, step = update.policy, update.policy.steps[-1]
    clean = policy.rollout(PROMPTS, SEEDS, 1.0).latents[-1]
    torch.testing.assert_close(batch.trajectory.latents[-1], clean)
    # The noise again, as a loss of each copy: every copy has its own, and the gradient is their mean.
    copies = []
    original = policy.predict
    policy.predict = lambda unet, step, latents, *rest: copies.append(latents) or original(unet, step, latents, *rest)
    gradients(update)
    policy.predict = original
    latents = copies[-1]
    assert len(latents) == 6 and not torch.equal(latents[:2], latents[2:4])
    noise = (latents - step.signal * clean.repeat(3, 1, 1, 1)) / step.noise
    assert abs(noise.mean()) < 0.1 and noise.std().item() == pytest.approx(1, abs=0.1)
    total = 0.0
    for copy_number in range(3):
        rows = latents[2 * copy_number : 2 * copy_number + 2]
        output = policy.predict(policy.denoiser, step, rows, policy.conditioning(PROMPTS, 1.0), 1.0)
        total = total - colour(policy.decode(step_mean(step, output, rows)), PROMPTS, ())[0].mean() / 3
    assert_close(found, torch.autograd.grad(total, update.parameters))


def saved_bytes(pipeline, **changes):
    update, kept = make_update(copy.deepcopy(pipeline), **changes), []

    def pack(tensor):
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        update.sample(make_batch(update))
    return sum(kept)


def test_memory_grows_with_the_steps_backpropagated_and_not_with_all_steps(tiny_pipeline):
    plain = {"train_step_checkpointing": False}
    one, two, three = (saved_bytes(tiny_pipeline, steps=8, backprop_steps=k, **plain) for k in (1, 2, 3))
    assert two - one == pytest.approx(three - two, rel=0.1) and two - one > 0.5 * one
    assert saved_bytes(tiny_pipeline, steps=16, backprop_steps=1, **plain) == pytest.approx(one, rel=0.01)


def test_checkpointed_steps_keep_their_latents_alone(tiny_pipeline):
    peaks = {}
    for checkpointing in (True, False):
        growth = [
            largest_graph(tiny_pipeline, backprop_steps=k, train_step_checkpointing=checkpointing) for k in (1, 6)
        ]
        peaks[checkpointing] = growth[1] - growth[0]
    assert peaks[True] < 0.1 * peaks[False]


def largest_graph(pipeline, **changes):
    """Bytes that the graph holds when the reward is asked, before anything is computed again."""
    update, kept = make_update(copy.deepcopy(pipeline), steps=6, **changes), []
    held = []

    def pack(tensor):
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    batch = make_batch(update)
    score = batch.score
    batch.score = lambda images, texts: held.append(sum(kept)) or score(images, texts)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        update.sample(batch)
    return held[0]


def test_accumulated_batches_have_the_gradient_of_a_large_one(tiny_pipeline):
    whole = make_update(copy.deepcopy(tiny_pipeline), backprop_steps=2)
    expected, _ = gradients(whole, make_batch(whole, PROMPTS * 2, [1, 2, 3, 4]))
    parts = make_update(
        copy.deepcopy(tiny_pipeline), backprop_steps=2, sample_num_batches_per_epoch=2,
        train_gradient_accumulation_steps=2,
    )
    first, _ = gradients(parts, make_batch(parts, PROMPTS, [1, 2]))
    assert not first, "The optimiser has made its step too early."
    second, _ = gradients(parts, make_batch(parts, PROMPTS, [3, 4]))
    assert_close(second, expected)


@pytest.mark.parametrize("method", METHODS)
def test_ascends_the_reward(tiny_pipeline, method):
    update = make_update(
        tiny_pipeline, method=method, backprop_steps=2, refl_window=[0.5, 1.0], sample_num_batches_per_epoch=8
    )
    update.optimizer = torch.optim.Adam(update.parameters, lr=3e-3)
    # The same noise again and again: the reward of these very pictures must rise.
    scores = []
    for _ in range(8):
        update.sample(batch := make_batch(update))
        scores.append(batch.scores[:, 0].mean().item())
    metrics = update.step(0, None)
    assert sum(scores[-3:]) / 3 > scores[0]
    assert metrics["optimizer_steps"] == 8 and metrics["grad_norm"] > 0 and metrics["loss"] < -scores[0]


def test_kl_penalty_holds_the_policy_back(tiny_pipeline):
    drift = {}
    for weight in (0.0, 1e4):
        update = make_update(copy.deepcopy(tiny_pipeline), backprop_steps=0, train_kl_weight=weight)
        for parameter in update.parameters[1::2]:
            parameter.data.zero_()
        update.optimizer = torch.optim.Adam(update.parameters, lr=1e-2)
        for _ in range(6):
            update.sample(make_batch(update))
        assert ("kl_to_base" in update.step(0, None)) == (weight > 0)
        conditioning = update.policy.conditioning(PROMPTS, 1.0)
        latents = update.policy.rollout(PROMPTS, SEEDS, 1.0).latents[:1]
        with torch.no_grad():
            mean = update.policy.means([0], latents, conditioning, 1.0)
        drift[weight] = (mean - update.policy.base_means([0], latents, conditioning, 1.0)).square().mean().item()
    assert drift[1e4] < 0.5 * drift[0.0]


def test_the_reward_sees_the_augmented_view_and_the_grid_the_picture(tiny_pipeline):
    update, seen = make_update(tiny_pipeline, reward_augmentation=0.2), []

    def watched(images, prompts, metadata):
        seen.append(images)
        return colour(images, prompts, metadata)

    batch = make_batch(update, reward=watched)
    update.sample(batch)
    assert not torch.equal(seen[0], batch.images) and batch.images.min() >= 0 and batch.images.max() <= 1


def test_a_reward_without_gradient_is_refused_by_name(tiny_pipeline):
    update = make_update(tiny_pipeline)
    batch = make_batch(update, reward=lambda images, prompts, metadata: (images.detach().mean((1, 2, 3)), {}))
    with pytest.raises(ValueError, match="Expected a differentiable reward, got 'colour'"):
        update.sample(batch)


def test_more_steps_than_there_are(tiny_pipeline):
    with pytest.raises(ValueError, match="backprop_steps: expected at most"):
        make_update(tiny_pipeline, backprop_steps=5)
