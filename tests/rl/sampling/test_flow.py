"""Steps of flow-matching samplers: values of the reference implementations, exact transitions, limits."""

import json
import math
from pathlib import Path

import pytest
import torch

from rl.sampling.flow import clean_latents, flow_mean, flow_step, flow_steps
from rl.sampling.step import log_prob

CASES = json.loads((Path(__file__).parents[2] / "data" / "flow_steps.json").read_text())
NAMES = {"flow_sde": "sde", "dance_sde": "dance", "cps": "cps"}


@pytest.mark.parametrize("name", NAMES)
def test_reference_values(name):
    assert len(CASES[name]) >= 40
    for case in CASES[name]:
        latents, velocity, after = (torch.tensor(case[key]) for key in ("latents", "velocity", "next"))
        second = case.get("sigma_max", 0.99)
        step = flow_step(case["sigma"], case["sigma_next"], NAMES[name], case["noise_level"], second)
        mean = flow_mean(step, velocity, latents)
        torch.testing.assert_close(mean, torch.tensor(case["mean"]), rtol=1e-4, atol=1e-4)
        if "std" in case and step.is_stochastic:
            assert step.sigma == pytest.approx(torch.tensor(case["std"]).flatten()[0].item(), rel=1e-4)
        if not step.is_stochastic:
            continue
        if name == "cps":  # there without the Gaussian's constants
            found = -(after - mean).square().flatten(1).mean(1)
        else:
            found = log_prob(step, mean, after)
        torch.testing.assert_close(found, torch.tensor(case["log_prob"]), rtol=1e-4, atol=1e-4)


def test_an_ode_step_is_eulers_and_the_last_step_is_always_one():
    for sampler in ("sde", "dance", "cps", "ode"):
        *_, step = flow_steps([1.0, 0.3, 0.0], sampler, 0.7)
        assert (step.from_latents, step.from_velocity, step.sigma) == (1.0, -0.3, 0.0) and not step.is_stochastic


@pytest.mark.parametrize("sampler", ["sde", "dance", "cps"])
def test_without_noise_every_sampler_is_the_ode(sampler):
    torch.manual_seed(0)
    latents, velocity = torch.randn(2, 3, 4, dtype=torch.float64)
    step = flow_step(0.6, 0.45, sampler, 0.0, 0.9)
    torch.testing.assert_close(flow_mean(step, velocity, latents), latents - 0.15 * velocity)
    assert step.sigma == 0 and not step.is_stochastic


def test_cps_keeps_the_noise_level_exactly():
    """With the true velocity the next latents are (1 - s') x0 + a unit share of noise s' in two parts."""
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 5, dtype=torch.float64)
    step = flow_step(0.7, 0.5, "cps", 0.6, 0.9)
    mean = flow_mean(step, noise - clean, 0.3 * clean + 0.7 * noise)
    rest = math.sqrt(0.25 - step.sigma**2)
    torch.testing.assert_close(mean, 0.5 * clean + rest * noise)


def test_steps_outside_the_window_are_ode_steps():
    steps = flow_steps([1.0, 0.8, 0.6, 0.3, 0.0], "sde", 0.7, (0.25, 0.75))
    assert [step.is_stochastic for step in steps] == [False, True, True, False]
    assert [step.level for step in steps] == [1.0, 0.8, 0.6, 0.3]
    first = flow_steps([1.0, 0.8, 0.0], "sde", 0.7)[0]
    assert math.isfinite(first.sigma) and first.sigma == pytest.approx(0.7 * math.sqrt(1 / 0.2 * 0.2))


def test_the_clean_prediction_is_exact_for_the_true_velocity():
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, dtype=torch.float64)
    level = torch.tensor([0.2, 0.5, 1.0]).double().view(-1, 1)
    torch.testing.assert_close(clean_latents(level, noise - clean, (1 - level) * clean + level * noise), clean)


@pytest.mark.parametrize("levels", [(0.5, 0.5), (0.5, 0.6), (1.2, 0.5), (0.5, -0.1)])
def test_levels_out_of_order_are_refused(levels):
    with pytest.raises(ValueError, match="falling noise levels"):
        flow_step(*levels, "ode", 0.0, 0.9)
    with pytest.raises(ValueError, match="ode, sde, dance or cps, got 'euler'"):
        flow_step(0.5, 0.4, "euler", 0.0, 0.9)
