"""What is learned of a pipeline's call, and which pipelines are refused, with what was seen."""

import pytest
import torch
from diffusers import (
    ConfigMixin,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    ModelMixin,
)
from diffusers.configuration_utils import register_to_config

from rl.config.ddpo_config import DDPOConfig
from rl.config.direct_config import DirectConfig
from rl.config.forward_config import NFTConfig
from rl.models.families import policy_for
from rl.models.flow_call import PipelineCall
from rl.models.flow_facts import LatentForm, learn
from rl.models.flow_pipeline import FlowPolicy
from rl.models.flow_scheduler import as_flow, is_flow
from tests.rl.models.flow_pipelines import cogview4


class ToyTransformer(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, channels=2):
        super().__init__()
        self.mix = torch.nn.Conv2d(channels, channels, 1)

    def forward(self, picture, when, text, extra=None):
        return (self.mix(picture) * when.view(-1, 1, 1, 1) + text.view(-1, 1, 1, 1),)


class ToyPipeline(DiffusionPipeline):
    """Fits; `fault` makes it misbehave in one way."""

    fault = ""

    def __init__(self, transformer, scheduler):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    def prepare_latents(self, count, generator):
        return torch.randn(count, 2, 4, 4, generator=generator)

    @torch.no_grad()
    def __call__(
        self, prompt, height=None, width=None, num_inference_steps=4, guidance_scale=5.0, generator=None,
        output_type="pt",
    ):  # fmt: skip
        if self.fault == "off at 0" and guidance_scale:
            prompt = [*prompt, *prompt]
        latents = self.prepare_latents(len(prompt), generator)
        self.scheduler.set_timesteps(num_inference_steps)
        text = torch.tensor([float(len(text)) for text in prompt])
        for index, t in enumerate(self.scheduler.timesteps):
            when, extra = (t / 1000).expand(len(latents)), None
            inputs = latents
            if self.fault == "needs a picture":
                raise TypeError("image is missing")
            if self.fault == "curved timestep":
                when = when**2
            if self.fault == "third argument":
                extra = latents.mean((1, 2, 3))
            if self.fault == "constant timestep":
                when = torch.ones(len(latents))
            if self.fault == "scaled latents":
                inputs = latents * 2
            if self.fault == "scaled later" and index:
                inputs = latents * 2
            if self.fault == "off at 0" and guidance_scale:
                inputs = torch.cat([latents, latents])
            output = self.transformer(inputs, when, text, extra=extra)[0]
            if self.fault == "two calls":
                output = output + self.transformer(inputs, when, text, extra=extra)[0]
            if self.fault == "scaled output":
                output = output * 2
            if self.fault == "added":
                latents = latents + 1
            latents = self.scheduler.step(output, t, latents, return_dict=False)[0]
        return (latents,)


def toy(fault=""):
    pipeline = ToyPipeline(ToyTransformer(), FlowMatchEulerDiscreteScheduler())
    pipeline.fault = fault
    return pipeline


def test_a_pipeline_of_nobodys_is_learned():
    policy = FlowPolicy(toy(), num_steps=4)
    facts = policy.facts
    assert (facts.latents, facts.timestep, facts.offset, facts.slope, facts.sign) == ("picture", "when", 0.0, 1.0, 1)
    assert facts.shared == {"extra"} and policy.latent_shape == (2, 4, 4) and policy.call.guidance_off == 1.0
    assert [step.level for step in policy.steps] == policy.pipeline.scheduler.sigmas[:-1].tolist()
    conditioning = policy.conditioning(["a", "abc", "a"], 1.0)
    assert conditioning.rows == 3 and conditioning.arguments["text"].tolist() == [1.0, 3.0, 1.0]


def test_where_one_is_guidance_zero_is_tried():
    policy = FlowPolicy(toy("off at 0"), num_steps=4)
    assert policy.call.guidance_off == 0.0


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("needs a picture", "its call for 2 prompts ended in TypeError: image is missing"),
        ("two calls", "calls its transformer twice a step; expected one call"),
        ("third argument", "besides picture and when a third argument, extra, changes from step to step"),
        ("curved timestep", r"when is not linear in sigma: \[1.0, .*\] at sigmas \[1.0, "),
        ("constant timestep", r"no argument of its transformer follows the timestep; changing ones: \[\]"),
        ("scaled latents", r"no argument of its transformer is the latents; seen: picture \(2, 2, 4, 4\), when \(2,\)"),
        ("scaled later", "picture are not the scheduler's latents at every step"),
        ("scaled output", r"what reaches its scheduler, \(2, 2, 4, 4\), is neither the transformer's output nor"),
        ("added", "the latents that it is given do not reach the scheduler unchanged"),
    ],
)
def test_a_pipeline_that_does_not_fit_is_refused(fault, seen):
    with pytest.raises(ValueError, match=f"model: ToyPipeline cannot be fine-tuned here: .*{seen}"):
        FlowPolicy(toy(fault), num_steps=4)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("scaled latents", "Expected picture of ToyPipeline to be the latents as recorded"),
        ("constant timestep", "Expected when = 0.5 at the first step of ToyPipeline as recorded"),
        ("scaled output", "output times 1 at the scheduler of ToyPipeline"),
    ],
)
def test_facts_are_checked_at_later_recordings(fault, message):
    policy = FlowPolicy(toy(), num_steps=4)
    policy.conditioning(["a"], 1.0)
    policy.pipeline.fault = fault
    if fault == "constant timestep":
        policy.conditioner.first_timestep = 0.5
    with pytest.raises(ValueError, match=message):
        policy.rollout(["a"], [1], 1.0)


def test_a_real_class_whose_timestep_is_curved_is_refused():
    """CogView 4 shifts its sigmas and leaves its timesteps as they were."""
    pipeline = cogview4()
    with pytest.raises(ValueError, match="CogView4Pipeline cannot be fine-tuned here: timestep is not linear in sigma"):
        FlowPolicy(pipeline, num_steps=3, resolution=16)
    # Nothing of the recording is left behind.
    assert isinstance(pipeline.transformer, torch.nn.Module)
    assert "step" not in vars(pipeline.scheduler) and "prepare_latents" not in vars(pipeline)


def test_what_a_call_needs():
    class Bare(ToyPipeline):
        def __call__(self, prompt):
            """No number of steps, no size."""

    pipeline = Bare(ToyTransformer(), FlowMatchEulerDiscreteScheduler())
    with pytest.raises(ValueError, match="expected a text-to-image pipeline, got Bare, which lacks the parameter num"):
        PipelineCall(pipeline, 0, "")
    with pytest.raises(ValueError, match="negative_prompts: ToyPipeline takes no negative prompt, got 'dull'"):
        PipelineCall(toy(), 0, "dull")
    with pytest.raises(ValueError, match="max_sequence_length: expected 0 with ToyPipeline, .* got 9"):
        PipelineCall(toy(), 0, "", 9)
    pipeline = toy()
    pipeline.__class__ = type("NoLatents", (ToyPipeline,), {"prepare_latents": property()})
    with pytest.raises(ValueError, match="lacks a method prepare_latents"):
        PipelineCall(pipeline, 0, "")


def test_forms():
    latents = torch.randn(2, 3, 4, 4)
    form = LatentForm(frame=True, rows=True)
    assert [tuple(row.shape) for row in form.wrap(latents)] == [(3, 1, 4, 4)] * 2
    assert torch.equal(form.unwrap(form.wrap(latents)), latents)
    assert torch.equal(LatentForm(half=True).unwrap(torch.cat([latents, latents + 1], dim=1)), latents)


def test_a_learned_variance_and_a_negative_output_are_read():
    pipeline = toy()
    forward = type(pipeline.transformer).forward

    class Doubled(ToyTransformer):
        def forward(self, picture, when, text, extra=None):
            value = -forward(self, picture, when, text)[0]
            return (torch.cat([value, value], dim=1),)

    class Halving(ToyPipeline):
        def __call__(self, prompt, height=None, width=None, num_inference_steps=4, generator=None, output_type="pt"):
            latents = self.prepare_latents(len(prompt), generator)
            self.scheduler.set_timesteps(num_inference_steps)
            for t in self.scheduler.timesteps:
                output = self.transformer(latents, t.expand(len(latents)), torch.ones(len(latents)))[0]
                latents = self.scheduler.step(-output.chunk(2, dim=1)[0], t, latents).prev_sample
            return (latents,)

    facts = learn(PipelineCall(Halving(Doubled(), FlowMatchEulerDiscreteScheduler()), 0, ""))
    assert facts.sign == -1 and facts.output == LatentForm(half=True) and facts.slope == 1000.0


def test_schedulers():
    assert is_flow(FlowMatchEulerDiscreteScheduler()) and is_flow(FlowMatchHeunDiscreteScheduler())
    assert not is_flow(DPMSolverMultistepScheduler()) and not is_flow(None)
    solver = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    assert is_flow(solver) and as_flow(solver).shift == 3.0
    heun = as_flow(FlowMatchHeunDiscreteScheduler(shift=2.0))
    assert type(heun) is FlowMatchEulerDiscreteScheduler and heun.shift == 2.0
    euler = FlowMatchEulerDiscreteScheduler(shift=1.5)
    assert as_flow(euler) is euler
    for name in ("stochastic_sampling", "invert_sigmas"):
        with pytest.raises(ValueError, match=f"expected a scheduler without {name}"):
            as_flow(FlowMatchEulerDiscreteScheduler(**{name: True}))


def test_guidance_in_a_training_pass_is_refused():
    with pytest.raises(ValueError, match="sample_guidance_scale: expected at most 1 with ToyPipeline, got 4"):
        policy_for(toy(), DDPOConfig(sample_guidance_scale=4.0))
    with pytest.raises(ValueError, match="sample_guidance_scale: expected at most 1 with ToyPipeline"):
        policy_for(toy(), DirectConfig())
    with pytest.raises(ValueError, match="train_guidance_scale: expected at most 1 with ToyPipeline, got 2"):
        policy_for(toy(), NFTConfig(train_guidance_scale=2.0))
    with pytest.raises(ValueError, match="train_kl_weight: expected 0 for direct fine-tuning of ToyPipeline"):
        policy_for(toy(), DirectConfig(sample_guidance_scale=1.0, train_kl_weight=0.1))
    policy = policy_for(toy(), NFTConfig(sample_guidance_scale=4.0, sample_num_steps=3))
    assert not any(step.is_stochastic for step in policy.steps)
    with pytest.raises(ValueError, match="Expected guidance off where ToyPipeline is trained, got 4"):
        policy.conditioning(["a"], 4.0)
    with pytest.raises(ValueError, match="expected at most 1 for log-probs of ToyPipeline"):
        policy.rollout(["a"], [1], 4.0)
    with pytest.raises(ValueError, match="one seed a prompt, got 1 prompts and 2 seeds"):
        policy.rollout(["a"], [1, 2], 1.0)


def test_a_config_makes_the_stochastic_window():
    config = DDPOConfig(
        sample_guidance_scale=1.0, sample_num_steps=5, train_step_window=[0.2, 0.6], flow_sampler="cps",
        flow_noise_level=0.5,
    )
    assert [step.is_stochastic for step in policy_for(toy(), config).steps] == [False, True, True, False, False]
    with pytest.raises(ValueError, match="flow_noise_level: expected at most 1 with flow_sampler: cps, got 1.5"):
        DDPOConfig(flow_sampler="cps", flow_noise_level=1.5)
    with pytest.raises(ValueError, match="train_step_weighting: expected none with train_ratio_norm"):
        DDPOConfig(train_ratio_norm=True, train_step_weighting="sigma")
