"""SDXL from the config's model to a LoRA that diffusers loads."""

import csv

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file

from rl.config.ddpo_config import DDPOConfig
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate

WEIGHTS = "pytorch_lora_weights.safetensors"


def redness(images, prompts, metadata):
    return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2)), {}


@pytest.fixture
def make_trainer(tiny_sdxl_folder, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle\na blue square\n")

    def make(run, **changes):
        values = dict(
            output_dir=str(run), model=str(tiny_sdxl_folder), prompts=str(prompts), num_epochs=2, save_freq=1,
            rewards=["tests.rl.test_sdxl_training:redness=1.0"], sample_num_steps=3, sample_guidance_scale=3.0,
            sample_batch_size=4, sample_num_batches_per_epoch=1, sample_group_size=4, train_batch_size=4,
            train_learning_rate=1e-2, lora_rank=4, lora_alpha=16.0, log_with=None,
        )
        return Trainer.from_config(DDPOConfig(**(values | changes)), DDPOUpdate)

    return make


def test_two_epochs_leave_a_lora_that_diffusers_loads_and_resume_is_bit_exact(make_trainer, tiny_sdxl_folder, tmp_path):
    whole = make_trainer(tmp_path / "whole", eval_at_end=True, eval_num_prompts=2, eval_guidance_scales=[3.0])
    assert type(whole.pipeline) is StableDiffusionXLPipeline
    frozen = {
        (name, key): value.clone()
        for name in ("unet", "vae", "text_encoder", "text_encoder_2")
        for key, value in getattr(whole.pipeline, name).state_dict().items() if "lora_" not in key
    }
    summary = whole.train()
    for (name, key), value in frozen.items():
        assert torch.equal(getattr(whole.pipeline, name).state_dict()[key], value), (name, key)
    assert {"reward_base", "reward_lora"} <= set(summary)
    for name in ("config.yaml", "metrics.csv", "summary.json", "report.html", WEIGHTS, "samples/epoch_000002.png"):
        assert (tmp_path / "whole" / name).is_file(), name
    with open(tmp_path / "whole" / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            assert float(row["ratio_mean"]) == 1.0 and float(row["approx_kl"]) == 0.0 and float(row["grad_norm"]) > 0

    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl_folder, add_watermarker=False)
    base = StableDiffusionPolicy(pipeline, num_steps=3).rollout(["a red circle"], [7], 3.0).latents
    pipeline.load_lora_weights(tmp_path / "whole")
    loaded = StableDiffusionPolicy(pipeline, num_steps=3).rollout(["a red circle"], [7], 3.0).latents
    trained = whole.policy.rollout(["a red circle"], [7], 3.0).latents
    torch.testing.assert_close(loaded, trained, rtol=0, atol=1e-5)
    assert (loaded - base).abs().max() > 1e-3, "else nothing is tested"

    run = tmp_path / "parts"
    broken = make_trainer(run)
    broken.update.step, step = lambda epoch, experience: stop(epoch, experience), broken.update.step

    def stop(epoch, experience):
        if epoch == 1:
            raise KeyboardInterrupt
        return step(epoch, experience)

    with pytest.raises(KeyboardInterrupt):
        broken.train()
    make_trainer(run, resume_from=str(run)).train()
    first, second = (load_file(folder / WEIGHTS) for folder in (tmp_path / "whole", run))
    assert first and all(torch.equal(first[name], second[name]) for name in first)
