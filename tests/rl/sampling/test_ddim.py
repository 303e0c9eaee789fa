import itertools
import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from rl.sampling.ddim import as_ddim, ddim_steps, step_mean
from rl.sampling.step import log_prob

KINDS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "linspace", "trailing")


def make_scheduler(**changes):
    return DDIMScheduler(**({"beta_schedule": "scaled_linear", "clip_sample": False} | changes))


@pytest.mark.parametrize(
    ("kind", "spacing", "offset", "to_one", "clip"),
    [
        *itertools.product(KINDS, SPACINGS, (0, 1), (True, False), (False,)),
        *((kind, "leading", 0, True, True) for kind in KINDS),
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 5e-4)])
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_step_equals_diffusers(kind, spacing, offset, to_one, clip, eta, dtype, tolerance):
    scheduler = make_scheduler(
        prediction_type=kind, timestep_spacing=spacing, steps_offset=offset, set_alpha_to_one=to_one,
        clip_sample=clip,
    )
    # In float32 diffusers loses up to 1e-4 to cancellation in 1 - a_s - sigma^2; in float64 both must agree.
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(dtype)
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.to(dtype)
    generator = torch.Generator().manual_seed(0)
    latents, output, noise = (torch.randn(2, 4, 8, 8, generator=generator, dtype=dtype) for _ in range(3))
    for step in ddim_steps(scheduler, 7, eta):
        ours = step_mean(step, output, latents) + step.sigma * noise
        theirs = scheduler.step(output, step.timestep, latents, eta=eta, variance_noise=noise).prev_sample
        if not torch.isfinite(theirs).all():  # diffusers' root of a rounding-negative number
            assert torch.isfinite(ours).all()
            continue
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize("clip", [False, True])
def test_zero_terminal_snr_is_finite(kind, clip):
    scheduler = make_scheduler(
        prediction_type=kind, timestep_spacing="trailing", rescale_betas_zero_snr=True, clip_sample=clip
    )
    steps = ddim_steps(scheduler, 10, 1.0)
    assert steps[0].signal == 0.0
    for step in steps:
        latents, output = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
        assert torch.isfinite(step_mean(step, output, latents)).all()
        assert math.isfinite(step.sigma)


def test_epsilon_with_zero_terminal_snr_is_refused():
    scheduler = make_scheduler(timestep_spacing="trailing", rescale_betas_zero_snr=True)
    with pytest.raises(ValueError, match="zero terminal SNR"):
        ddim_steps(scheduler, 10, 1.0)


def test_thresholding_is_refused():
    with pytest.raises(ValueError, match="thresholding=False"):
        ddim_steps(make_scheduler(thresholding=True), 10, 1.0)


def test_unknown_prediction_type_is_refused():
    step = ddim_steps(make_scheduler(prediction_type="flow"), 10, 1.0)[0]
    with pytest.raises(ValueError, match="'flow'"):
        step_mean(step, torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))


def test_log_prob_is_the_mean_of_normal_log_prob():
    step = ddim_steps(make_scheduler(), 10, 1.0)[3]
    mean, there = torch.randn(5, 4, 8, 8), torch.randn(5, 4, 8, 8)
    expected = torch.distributions.Normal(mean, step.sigma).log_prob(there).mean(dim=(1, 2, 3))
    torch.testing.assert_close(log_prob(step, mean, there), expected, rtol=1e-6, atol=1e-6)


def test_last_step_has_no_density():
    steps = ddim_steps(make_scheduler(set_alpha_to_one=True), 10, 1.0)
    assert [step.is_stochastic for step in steps] == [True] * 9 + [False]
    with pytest.raises(ValueError, match="stochastic step"):
        log_prob(steps[-1], torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))
    assert not any(step.is_stochastic for step in ddim_steps(make_scheduler(), 10, 0.0))


@pytest.mark.parametrize("kind", KINDS)
def test_output_sensitivity_is_the_slope_over_sigma(kind):
    for step in ddim_steps(make_scheduler(prediction_type=kind), 10, 1.0)[:-1]:
        output = torch.zeros(1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
        step_mean(step, output, torch.ones(1, 1, 1, 1, dtype=torch.float64)).sum().backward()
        assert step.output_sensitivity == pytest.approx(output.grad.abs().item() / step.sigma, rel=1e-9)


SD15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PNDMScheduler, {"skip_prk_steps": True, "steps_offset": 1}),
        (EulerDiscreteScheduler, {}),
        (EulerDiscreteScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
        (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
        (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
        (UniPCMultistepScheduler, {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    ],
)
def test_another_sampler_is_read_as_ddim(tmp_path, kind, options, saved):
    source = kind(**SD15, **options)
    if saved:  # a saved scheduler states its defaults: nothing may depend on that
        source.save_pretrained(tmp_path)
        source = kind.from_pretrained(tmp_path)
    ddim = as_ddim(source)
    for name in ("num_train_timesteps", "prediction_type", "timestep_spacing", "steps_offset", "beta_schedule"):
        assert ddim.config[name] == source.config[name], name
    assert torch.equal(ddim.betas, source.betas)
    steps = ddim_steps(ddim, 5, 1.0)
    assert all(step.clip is None for step in steps), "SD's latents go beyond [-1, 1]"
    # PNDM alone stops at the first noise level rather than at none.
    assert (ddim.final_alpha_cumprod == 1) == (kind is not PNDMScheduler)


@pytest.mark.parametrize("clips", [True, False])
def test_a_sampler_that_clips_goes_on_to(clips):
    assert as_ddim(DDIMScheduler(clip_sample=clips)).config.clip_sample == clips
    assert as_ddim(DDIMScheduler()).config.clip_sample
    assert as_ddim(EulerDiscreteScheduler.from_config({"clip_sample": clips})).config.clip_sample == clips


def test_samplers_without_ddims_noise_levels_are_refused():
    with pytest.raises(ValueError, match="beta schedule, got FlowMatchEulerDiscreteScheduler"):
        as_ddim(FlowMatchEulerDiscreteScheduler())
    with pytest.raises(ValueError, match="beta schedule, got EDMEulerScheduler"):
        as_ddim(EDMEulerScheduler())
    with pytest.raises(ValueError, match="got 'flow_prediction' in DPMSolverMultistepScheduler"):
        as_ddim(DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True))
