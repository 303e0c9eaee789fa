import copy

import pytest
import torch
from accelerate import Accelerator

from rl.config.ddpo_config import DDPOConfig
from rl.lora.adapter import add_lora
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.updates.ddpo import (
    DDPOUpdate,
    PromptStatistics,
    compute_advantages,
    ppo_loss,
    step_weights,
    trained_steps,
)
from tests.conftest import build_tiny_pipeline
from tests.rl.updates.epochs import PROMPTS, REWARDS, make_experience


def make_update(pipeline, learning_rate=1e-3, **changes):
    config = DDPOConfig(
        **(
            dict(
                sample_num_steps=5, sample_guidance_scale=1.0, sample_batch_size=8, sample_num_batches_per_epoch=1,
                sample_group_size=4, train_batch_size=8,
            )
            | changes
        )
    )
    policy = StableDiffusionPolicy(pipeline, num_steps=config.sample_num_steps)
    parameters = add_lora(pipeline.unet, rank=4, alpha=8, targets=["to_q", "to_v"], seed=0)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
    return DDPOUpdate(config, policy, Accelerator(cpu=True), optimizer)


def test_group_advantages_have_mean_0_and_std_1():
    advantages, skipped = compute_advantages(torch.tensor(REWARDS), 4, "group", 10.0)
    groups = advantages.view(2, 4)
    torch.testing.assert_close(groups.mean(1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(groups.std(1, unbiased=False), torch.ones(2), atol=1e-6, rtol=0)
    assert skipped == 0


@pytest.mark.parametrize("mode", ["group", "group_mean", "global"])
def test_advantages_do_not_see_shift_and_scale(mode):
    rewards = torch.tensor(REWARDS)
    expected, _ = compute_advantages(rewards, 4, mode, 10.0)
    for scale, shift in ((100.0, 0.0), (1e-3, 0.0), (3.0, -7.0)):
        changed, _ = compute_advantages(scale * rewards + shift, 4, mode, 10.0)
        torch.testing.assert_close(changed, expected, atol=2e-5, rtol=0)


def test_group_mean_uses_one_scale():
    advantages, _ = compute_advantages(torch.tensor([0.0, 1.0, 0.0, 10.0]), 2, "group_mean", 10.0)
    assert advantages.tolist() == pytest.approx([-0.1407, 0.1407, -1.4072, 1.4072], abs=1e-3)


@pytest.mark.parametrize("mode", ["group", "group_mean"])
def test_groups_without_spread_are_skipped_and_counted(mode):
    rewards = torch.tensor([0.3] * 4 + [0.1, 0.2, 0.3, 0.4])
    rewards[1] += 2e-8  # float32 rounding is no spread
    advantages, skipped = compute_advantages(rewards, 4, mode, 10.0)
    assert skipped == 1
    assert advantages[:4].tolist() == [0.0] * 4
    assert advantages[4:].abs().min() > 0


def test_advantages_are_clipped():
    advantages, _ = compute_advantages(torch.tensor([0.0] * 99 + [1.0]), 100, "global", 2.0)
    assert advantages.max() == 2.0
    with pytest.raises(ValueError, match="'sum'"):
        compute_advantages(torch.zeros(4), 4, "sum", 1.0)


def test_prompt_statistics_are_trls():
    tracker = PromptStatistics(buffer_size=4, min_count=3)
    first = tracker.update(["a", "a", "b"], torch.tensor([1.0, 3.0, 5.0]))
    assert first.tolist() == pytest.approx([-1.2247, 0.0, 1.2247], abs=1e-3)  # too few: the batch's own statistics
    second = tracker.update(["a", "b", "a"], torch.tensor([5.0, 7.0, 7.0]))
    assert tracker.rewards == {"a": [1.0, 3.0, 5.0, 7.0], "b": [5.0, 7.0]}
    assert second[0].item() == pytest.approx((5 - 4) / 5**0.5, abs=1e-4)
    tracker.update(["a"], torch.tensor([9.0]))
    assert tracker.rewards["a"] == [3.0, 5.0, 7.0, 9.0]


def test_ppo_loss_by_hand():
    new = torch.log(torch.tensor([1.0, 1.5, 1.5, 0.5, 0.5])).requires_grad_()
    old, advantages = torch.zeros(5), torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0])
    loss, record = ppo_loss(new, old, advantages, clip_range=0.2)
    assert loss.item() == pytest.approx((-1.0 - 1.2 + 1.5 - 0.5 + 0.8) / 5)
    assert record[2].item() == pytest.approx(0.8)
    assert record[3].item() == pytest.approx(1.0)
    assert record[1].item() == pytest.approx(0.5 * new.detach().square().mean().item())
    loss.backward()
    assert (new.grad != 0).tolist() == [True, False, True, True, False]


def held_distance(pipeline, weight):
    update = make_update(
        copy.deepcopy(pipeline), 3e-2, train_step_window=[0.0, 0.6], train_hold_weight=weight, train_clip_range=1.0
    )
    experience = make_experience(update, REWARDS)
    for epoch in range(6):
        metrics = update.step(epoch, experience)
    conditioning = update.policy.conditioning(PROMPTS, 1.0)
    with torch.no_grad():
        distances = [
            update.policy.distance_to_base(index, experience.trajectory.latents[index], conditioning, 1.0).item()
            for index in (3, 4)
        ]
    return sum(distances) / 2, metrics


def test_steps_outside_the_window_are_held_to_the_base_model(tiny_pipeline):
    free, metrics = held_distance(tiny_pipeline, 0.0)
    assert "held_distance" not in metrics
    held, metrics = held_distance(tiny_pipeline, 1e3)
    assert 0 < metrics["held_distance"] and held < 0.2 * free


def test_holding_nothing_is_an_error_not_silence(tmp_path):
    # This scheduler's last step has a little noise, so the default window trains every step.
    pipeline = build_tiny_pipeline(tmp_path, set_alpha_to_one=False)
    with pytest.raises(ValueError, match="train_hold_weight: expected a train_step_window that leaves a step out"):
        make_update(pipeline, train_hold_weight=1.0)


def test_holding_does_not_touch_the_gradient_of_the_trained_steps(tiny_pipeline):
    # At the first update the distance is 0 and so is its gradient.
    weights = []
    for weight in (0.0, 10.0):
        update = make_update(copy.deepcopy(tiny_pipeline), train_step_window=[0.0, 0.6], train_hold_weight=weight)
        update.step(0, make_experience(update, REWARDS))
        weights.append([parameter.detach().clone() for parameter in update.parameters])
    assert all(torch.equal(first, second) for first, second in zip(*weights, strict=True))


def test_weight_scales_the_gradient_of_a_step():
    grads = []
    for weight in (1.0, 0.25):
        new = torch.zeros(3, requires_grad=True)
        ppo_loss(new, torch.zeros(3), torch.tensor([1.0, -2.0, 0.5]), 1e-4, weight)[0].backward()
        grads.append(new.grad)
    torch.testing.assert_close(grads[1], 0.25 * grads[0])


@pytest.mark.parametrize("changes", [{}, {"sample_guidance_scale": 4.0},
                                     {"sample_guidance_scale": 4.0, "train_cfg": False}])
def test_on_policy_ratio_is_1_and_kl_0(tiny_pipeline, changes):
    update = make_update(tiny_pipeline, **changes)
    metrics = update.step(0, make_experience(update, REWARDS))
    assert metrics["ratio_mean"] == 1.0
    assert metrics["approx_kl"] == 0.0
    assert metrics["clip_fraction"] == 0.0
    assert metrics["grad_norm"] > 0
    assert metrics["optimizer_steps"] == 1.0


def test_gradient_is_the_policy_gradient(tiny_pipeline):
    update = make_update(tiny_pipeline, learning_rate=0.0, train_max_grad_norm=1e9)
    experience = make_experience(update, REWARDS)
    advantages, _ = compute_advantages(experience.rewards, 4, "group", 5.0)
    conditioning = update.policy.conditioning(PROMPTS, 1.0)
    latents = experience.trajectory.latents
    surrogate = 0.0
    for index in range(4):
        new = update.policy.log_prob(index, latents[index], latents[index + 1], conditioning, 1.0)
        surrogate = surrogate - (advantages * new).mean() / 4
    expected = torch.autograd.grad(surrogate, update.parameters)
    seen = []
    update.optimizer.register_step_pre_hook(
        lambda *args: seen.extend(p.grad.clone() for p in update.parameters)
    )
    update.step(0, experience)
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)


def test_accumulation_equals_one_large_batch(tiny_pipeline):
    gradients = []
    for batch, accumulation in ((8, 1), (2, 4)):
        update = make_update(
            copy.deepcopy(tiny_pipeline), learning_rate=0.0, train_batch_size=batch,
            train_gradient_accumulation_steps=accumulation,
        )
        seen = []
        update.optimizer.register_step_pre_hook(
            lambda *args, own=update.parameters, seen=seen: seen.append(torch.cat([p.grad.flatten() for p in own]))
        )
        update.step(0, make_experience(update, REWARDS))
        gradients += seen
    assert (gradients[0] - gradients[1]).norm() <= 3e-5 * gradients[0].norm()


@pytest.mark.parametrize("changes", [{}, {"sample_guidance_scale": 4.0}, {"train_step_weighting": "output"},
                                     {"train_batch_size": 2, "train_gradient_accumulation_steps": 4}])
@pytest.mark.parametrize("steps", [2, 3, 100])
def test_flattened_steps_have_the_gradient_of_single_ones(tiny_pipeline, steps, changes):
    gradients, metrics = [], []
    for per_pass in (1, steps):
        update = make_update(
            copy.deepcopy(tiny_pipeline), learning_rate=0.0, train_steps_per_pass=per_pass, train_max_grad_norm=1e9,
            **changes,
        )
        seen = []
        update.optimizer.register_step_pre_hook(
            lambda *args, own=update.parameters, seen=seen: seen.append(torch.cat([p.grad.flatten() for p in own]))
        )
        metrics.append(update.step(0, make_experience(update, REWARDS)))
        gradients += seen
    assert gradients[0].norm() > 0
    assert (gradients[0] - gradients[1]).norm() <= 3e-5 * gradients[0].norm()
    assert metrics[0]["loss"] == pytest.approx(metrics[1]["loss"], abs=1e-5)


def test_kl_to_the_base_model_is_0_at_first_and_holds_the_policy_back(tiny_pipeline):
    after = {}
    for weight in (0.0, 1e-9, 1e3):
        update = make_update(copy.deepcopy(tiny_pipeline), train_kl_weight=weight, train_steps_per_pass=2)
        experience = make_experience(update, REWARDS)
        metrics = update.step(0, experience)
        assert metrics.get("kl_to_base", 0.0) == 0.0 and ("kl_to_base" in metrics) == (weight > 0)
        for epoch in range(1, 6):
            metrics = update.step(epoch, experience)
        conditioning, latents = update.policy.conditioning(PROMPTS, 1.0), experience.trajectory.latents
        with torch.no_grad():
            means = update.policy.means([0, 1, 2, 3], latents[:4], update.policy.conditioning(PROMPTS * 4, 1.0), 1.0)
        base = update.policy.base_means([0], latents[:1], conditioning, 1.0)
        assert torch.equal(
            base[0], step_mean_without_lora(update.policy, latents[0], conditioning)
        ), "The base model's mean has the LoRA in it."
        after[weight] = (means[0] - base[0]).square().mean().item()
    # A weight that is next to nothing changes nothing; a large one keeps the policy at the base model.
    assert after[1e-9] == pytest.approx(after[0.0], rel=1e-3)
    assert after[1e3] < 0.1 * after[0.0]


def step_mean_without_lora(policy, latents, conditioning):
    with policy.base_model(), torch.no_grad():
        return policy.means([0], latents[None], conditioning, 1.0)[0]


def test_gradient_of_the_kl_penalty_is_that_of_its_closed_form(tiny_pipeline):
    gradients = []
    for weight in (0.0, 2.0):
        update = make_update(
            copy.deepcopy(tiny_pipeline), learning_rate=0.0, train_kl_weight=weight, train_max_grad_norm=1e9
        )
        experience = make_experience(update, REWARDS)
        for number, parameter in enumerate(update.parameters):
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
        seen = []
        update.optimizer.register_step_pre_hook(
            lambda *args, own=update.parameters, seen=seen: seen.extend(p.grad.clone() for p in own)
        )
        update.step(0, experience)
        gradients.append(seen)
    conditioning, latents = update.policy.conditioning(PROMPTS, 1.0), experience.trajectory.latents
    penalty = 0.0
    for index in range(4):
        sigma = update.policy.steps[index].sigma
        base = update.policy.base_means([index], latents[index : index + 1], conditioning, 1.0)[0]
        mean = update.policy.means([index], latents[index : index + 1], conditioning, 1.0)[0]
        normal = torch.distributions.Normal
        penalty = penalty + 2.0 * torch.distributions.kl_divergence(normal(mean, sigma), normal(base, sigma)).mean() / 4
    expected = torch.autograd.grad(penalty, update.parameters)
    for plain, penalised, extra in zip(*gradients, expected, strict=True):
        torch.testing.assert_close(penalised - plain, extra, rtol=1e-3, atol=1e-6)


def test_update_favours_what_was_rewarded(tiny_pipeline):
    update = make_update(tiny_pipeline)
    experience = make_experience(update, REWARDS)
    update.step(0, experience)
    advantages, _ = compute_advantages(experience.rewards, 4, "group", 5.0)
    conditioning, latents = update.policy.conditioning(PROMPTS, 1.0), experience.trajectory.latents
    with torch.no_grad():
        gain = sum(
            (advantages * (update.policy.log_prob(i, latents[i], latents[i + 1], conditioning, 1.0)
                           - experience.trajectory.log_probs[i])).sum()
            for i in range(4)
        )
    assert gain > 0


def test_several_steps_move_off_policy(tiny_pipeline):
    update = make_update(tiny_pipeline, train_batch_size=2, train_num_inner_epochs=2, train_timestep_fraction=0.5)
    metrics = update.step(3, make_experience(update, REWARDS))
    assert metrics["optimizer_steps"] == 8.0
    assert metrics["approx_kl"] > 0
    assert update._draw_steps(3, 0) == update._draw_steps(3, 0)
    assert len(update._draw_steps(3, 0)) == 2


def test_equal_rewards_change_nothing_but_weight_decay(tiny_pipeline):
    update = make_update(tiny_pipeline)
    metrics = update.step(0, make_experience(update, [0.5] * 8))
    assert metrics["zero_std_groups"] == 2.0
    assert metrics["grad_norm"] == 0.0


def test_non_finite_gradient_stops_before_the_step(tiny_pipeline):
    update = make_update(tiny_pipeline)
    experience = make_experience(update, REWARDS)
    experience.trajectory.latents[2, 3] = float("nan")
    before = [parameter.detach().clone() for parameter in update.parameters]
    with pytest.raises(FloatingPointError, match="step was not taken"):
        update.step(0, experience)
    assert all(torch.equal(a, b) for a, b in zip(before, update.parameters, strict=True))


def test_window_leaves_out_the_last_step(tiny_pipeline):
    tiny_pipeline.scheduler.register_to_config(set_alpha_to_one=True)
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=10)
    assert trained_steps(policy, [0.0, 1.0]) == list(range(9))
    assert trained_steps(policy, [0.0, 0.5]) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="train_step_window"):
        trained_steps(policy, [0.9, 1.0])


def test_step_weights(tiny_pipeline):
    policy = StableDiffusionPolicy(tiny_pipeline, num_steps=10)
    window = [0, 3, 6]
    assert step_weights(policy, window, "none") == {0: 1.0, 3: 1.0, 6: 1.0}
    for kind in ("sigma", "output"):
        weights = step_weights(policy, window, kind)
        assert sum(weights.values()) / 3 == pytest.approx(1.0)
    sigma = step_weights(policy, window, "sigma")
    assert sigma[0] / sigma[6] == pytest.approx(policy.steps[0].sigma / policy.steps[6].sigma)
    output = step_weights(policy, window, "output")
    products = [output[i] * policy.steps[i].output_sensitivity for i in window]
    assert max(products) == pytest.approx(min(products))


def test_per_prompt_statistics_survive_a_checkpoint(tiny_pipeline):
    update = make_update(tiny_pipeline, per_prompt_stat_tracking=True, per_prompt_stat_tracking_min_count=2)
    update.step(0, make_experience(update, REWARDS))
    state = update.state_dict()
    update.tracker.rewards = {}
    update.load_state_dict(state)
    assert update.tracker.rewards["a red circle"] == pytest.approx(REWARDS[:4])


def test_the_normalised_ratio_has_no_drift_and_does_not_grow_with_the_step(tiny_pipeline):
    update = make_update(tiny_pipeline, train_ratio_norm=True, train_clip_range=10.0)
    experience = make_experience(update, REWARDS)
    trajectory, every = experience.trajectory, torch.arange(8)
    start = update._losses(trajectory, torch.ones(8), every, trajectory.prompts, [1])[1][0]
    assert start[1] == 0 and start[3] == 1, "on the policy itself the ratio is exactly 1"
    with torch.no_grad():
        for parameter in update.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)), alpha=0.3)
    conditioning = update.policy.conditioning(trajectory.prompts, 1.0)
    for index in update.window:
        before, after = trajectory.latents[index], trajectory.latents[index + 1]
        with torch.no_grad():
            mean = update.policy.means([index], before[None], conditioning, 1.0)[0]
        # The noise of the step times the shift of its mean, whatever its sigma.
        noise = (after - trajectory.means[index]) / update.policy.steps[index].sigma
        expected = ((mean - trajectory.means[index]) * noise).flatten(1).mean(1).exp()
        record = update._losses(trajectory, torch.ones(8), every, trajectory.prompts, [index])[1][0]
        assert record[3].item() == pytest.approx(expected.mean().item(), abs=1e-5)
        assert (expected - 1).abs().max() > 1e-4
