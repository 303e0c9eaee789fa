import warnings

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    TCDScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)

from rl.config.ddpo_config import DDPOConfig
from rl.models.checks import announce_cut_prompts, check_pipeline
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.rewards.loading import Reward, RewardSet
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate

LEVELS = {"beta_schedule": "scaled_linear", "steps_offset": 1}


def with_unet(pipeline, **options):
    pipeline.unet = UNet2DConditionModel.from_config({**pipeline.unet.config, **options})
    return pipeline


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 9}, "Expected a UNet with 4 input channels, .* got 9: an inpainting model"),
        ({"in_channels": 5}, "got 5: a depth-to-image model"),
        ({"in_channels": 12}, "got 12: it has other inputs besides latents"),
        ({"out_channels": 8}, "Expected a UNet with 4 output channels, .* got 8: a model that predicts its own"),
        ({"num_class_embeds": 10}, "got one with num_class_embeds=10: a model of classes"),
        ({"class_embed_type": "timestep"}, "class_embed_type=timestep"),
        ({"time_cond_proj_dim": 16}, "got one with time_cond_proj_dim=16: an LCM-distilled model, whose guidance"),
        ({"encoder_hid_dim": 16, "encoder_hid_dim_type": "image_proj"}, "embeddings of pictures"),
        ({"addition_embed_type": "text", "addition_embed_type_num_heads": 2}, "addition_embed_type=text: expected"),
    ],
)
def test_a_unet_with_other_inputs_is_refused(tiny_pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        StableDiffusionPolicy(with_unet(tiny_pipeline, **options), num_steps=3)


def test_sdxl_without_its_added_embedding_is_refused(tiny_sdxl):
    check_pipeline(tiny_sdxl)
    with pytest.raises(ValueError, match="addition_embed_type=None: expected text_time"):
        check_pipeline(with_unet(tiny_sdxl, addition_embed_type=None))


def test_the_lcm_embedding_would_have_been_left_out(tiny_pipeline):
    # Why it is refused: without the embedding the UNet is another function, and no error says so.
    unet = with_unet(tiny_pipeline, time_cond_proj_dim=16).unet
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 24, 16)
    without = unet(latents, 1, text, return_dict=False)[0]
    given = unet(latents, 1, text, timestep_cond=torch.ones(1, 16) * 100, return_dict=False)[0]
    assert not torch.equal(without, given)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (EulerDiscreteScheduler(use_karras_sigmas=True, **LEVELS), "use_karras_sigmas=True"),
        (EulerDiscreteScheduler(use_exponential_sigmas=True, **LEVELS), "use_exponential_sigmas=True"),
        (DPMSolverMultistepScheduler(use_lu_lambdas=True, **LEVELS), "use_lu_lambdas=True"),
        (UniPCMultistepScheduler(sigma_max=10.0, **LEVELS), "sigma_max=10.0"),
        (EulerDiscreteScheduler(interpolation_type="log_linear", final_sigmas_type="sigma_min", **LEVELS),
         "interpolation_type=log_linear, final_sigmas_type=sigma_min"),
        (LCMScheduler(**LEVELS), "LCMScheduler, is replaced by DDIM .* consistency steps .*timestep_scaling"),
        (TCDScheduler(**LEVELS), "trajectory consistency steps"),
        (DDPMScheduler(variance_type="fixed_large", **LEVELS), "variance_type=fixed_large"),
    ],
)  # fmt: skip
def test_what_is_ignored_of_a_scheduler_is_said(tiny_pipeline, scheduler, said):
    tiny_pipeline.scheduler = scheduler
    with pytest.warns(UserWarning, match=said) as found:
        StableDiffusionPolicy(tiny_pipeline, num_steps=3)
    assert len(found) == 1 and found[0].filename == __file__


@pytest.mark.parametrize(
    "scheduler",
    [DDIMScheduler(**LEVELS), PNDMScheduler(skip_prk_steps=True, **LEVELS), EulerDiscreteScheduler(**LEVELS),
     DDPMScheduler(**LEVELS), DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", **LEVELS),
     DDIMScheduler(timestep_spacing="trailing", rescale_betas_zero_snr=True, prediction_type="v_prediction", **LEVELS)],
    ids=lambda scheduler: type(scheduler).__name__,
)  # fmt: skip
def test_an_ordinary_scheduler_is_read_in_silence(tiny_pipeline, scheduler):
    tiny_pipeline.scheduler = scheduler
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        StableDiffusionPolicy(tiny_pipeline, num_steps=3)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction", **LEVELS),
         r"got timestep_type='continuous' in EulerDiscreteScheduler: .* \(flow matching, EDM\)"),
        (DPMSolverMultistepScheduler(use_flow_sigmas=True, **LEVELS), "use_flow_sigmas=True"),
        (DDPMScheduler(beta_schedule="sigmoid"), "got 'sigmoid' in DDPMScheduler"),
    ],
)  # fmt: skip
def test_timesteps_of_another_kind_are_refused(tiny_pipeline, scheduler, message):
    tiny_pipeline.scheduler = scheduler
    with pytest.raises(ValueError, match=message):
        StableDiffusionPolicy(tiny_pipeline, num_steps=3)


def test_cut_prompts_are_counted_once(tiny_pipeline):
    # 24 tokens, two of them marks; the tokenizer reads letters
    fits, long = "a" * 22, "b" * 23
    with pytest.warns(UserWarning, match="^2 prompts are longer than the 24 tokens .* for example 'bbbb") as found:
        assert announce_cut_prompts(tiny_pipeline, [fits, long, "c" * 5000, long, "short"]) == 2
    assert len(found) == 1 and len(str(found[0].message)) < 300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert announce_cut_prompts(tiny_pipeline, [fits, "short"]) == 0


def test_a_run_says_it_before_it_starts(tiny_pipeline, tmp_path):
    config = DDPOConfig(output_dir=str(tmp_path), sample_batch_size=2, sample_num_batches_per_epoch=1,
                        sample_group_size=2, train_batch_size=2, train_gradient_accumulation_steps=1,
                        log_with=None)  # fmt: skip
    rewards = RewardSet([Reward("brightness", lambda images, prompts, metadata: (images.mean((1, 2, 3)), {}))])
    with pytest.warns(UserWarning, match="^2 prompts are longer") as found:
        Trainer(config, tiny_pipeline, rewards, ["a ring", "b" * 30], DDPOUpdate, eval_prompts=["c" * 30])
    assert [str(one.message) for one in found if "longer" in str(one.message)] == [str(found[0].message)]


def test_bytes_are_not_taken_for_tokens(tiny_pipeline):
    # 23 bytes, of which the spaces are no token
    assert announce_cut_prompts(tiny_pipeline, ["a " * 11 + "a"]) == 0


def test_the_first_process_alone_says_it(tiny_pipeline, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert announce_cut_prompts(tiny_pipeline, ["b" * 23]) == 1


def test_either_of_two_encoders_may_cut(tiny_sdxl):
    tiny_sdxl.tokenizer_2.model_max_length = 12
    with pytest.warns(UserWarning, match="^1 prompts are longer than the 12 tokens"):
        assert announce_cut_prompts(tiny_sdxl, ["a" * 15, "a"]) == 1
