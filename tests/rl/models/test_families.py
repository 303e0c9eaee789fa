"""Which family knows a pipeline, and what every policy promises beyond a rollout: clean predictions and added noise."""

import pytest
import torch

from rl.config.ddpo_config import DDPOConfig
from rl.models.families import policy_for
from tests.rl.models.flow_pipelines import sd3

PROMPTS = ["a red ring", "a blue square"]


@pytest.fixture(params=["tiny_pipeline", "tiny_sdxl"])
def policy(request):
    return policy_for(request.getfixturevalue(request.param), DDPOConfig(sample_num_steps=5, negative_prompts="dull"))


def test_a_config_makes_the_policy(policy):
    assert len(policy.steps) == 5 and policy.prompt_encoder.negative_prompt == "dull"
    assert policy.denoiser is policy.trained is policy.pipeline.unet


def test_a_pipeline_that_no_family_knows_is_refused():
    with pytest.raises(ValueError, match="expected a pipeline of class StableDiffusionPipeline, .* got object"):
        policy_for(object(), DDPOConfig())


@pytest.mark.parametrize("options", [{"flow_sampler": "cps", "max_sequence_length": 9}, {}])
def test_options_of_another_familys_sampler_are_announced(tiny_pipeline, recwarn, options):
    policy_for(tiny_pipeline, DDPOConfig(sample_num_steps=3, sample_eta=0.5, **options))
    said = [str(one.message) for one in recwarn if "ignored: " in str(one.message)]
    assert [message.partition("ignored: ")[2] for message in said] == (
        ["max_sequence_length=9, flow_sampler=cps. Leave these options out."] if options else []
    )


def test_so_is_ddims_eta_of_a_flow_matching_model(tmp_path):
    with pytest.warns(UserWarning, match="StableDiffusion3Pipeline has another sampler; ignored: sample_eta=0.5"):
        policy_for(sd3(tmp_path), DDPOConfig(sample_num_steps=3, sample_guidance_scale=1.0, sample_eta=0.5))


def test_a_transition_is_the_mean_and_the_clean_prediction_of_one_call(policy):
    conditioning, latents = policy.conditioning(PROMPTS, 2.0), torch.randn(2, *policy.latent_shape)
    before = policy.rows_evaluated
    clean, mean = policy.transition(2, latents, conditioning, 2.0)
    assert policy.rows_evaluated - before == 4
    assert torch.equal(mean, policy.means([2], latents[None], conditioning, 2.0)[0])
    torch.testing.assert_close(clean, policy.predict_clean(policy.steps[2].level, latents, conditioning, 2.0))


def test_each_row_may_have_a_noise_level_of_its_own(policy):
    conditioning, latents = policy.conditioning(PROMPTS, 1.0), torch.randn(2, *policy.latent_shape)
    levels = [policy.steps[0].level, policy.steps[3].level]
    both = policy.predict_clean(torch.tensor(levels), latents, conditioning, 1.0)
    noised = policy.add_noise(latents, torch.ones_like(latents), torch.tensor(levels))
    for row, level in enumerate(levels):
        one = policy.conditioning(PROMPTS[row : row + 1], 1.0)
        alone = policy.predict_clean(level, latents[row : row + 1], one, 1.0)
        torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-4, atol=1e-4)
        part = latents[row : row + 1]
        torch.testing.assert_close(noised[row : row + 1], policy.add_noise(part, torch.ones_like(part), level))


def test_added_noise_is_that_of_the_schedule(policy):
    latents, noise = torch.randn(2, *policy.latent_shape), torch.randn(2, *policy.latent_shape)
    timesteps = torch.tensor([7, 901])
    theirs = policy.scheduler.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(policy.add_noise(latents, noise, timesteps), theirs)


def test_gradients_go_through_the_wrapped_denoiser_unless_told(policy):
    calls = []
    policy.trained = lambda *given, **options: calls.append(1) or policy.denoiser(*given, **options)
    conditioning, latents = policy.conditioning(PROMPTS, 1.0), torch.randn(2, *policy.latent_shape)
    policy.predict_clean(policy.steps[0].level, latents, conditioning, 1.0)
    policy.predict_clean(policy.steps[0].level, latents, conditioning, 1.0, policy.denoiser)
    policy.transition(0, latents, conditioning, 1.0)
    assert len(calls) == 1
