"""Flow-matching pipelines of nine families through the whole trainer, one epoch each: what changes, what does not."""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file

from rl.config.ddpo_config import DDPOConfig
from rl.config.direct_config import DirectConfig
from rl.config.forward_config import NFTConfig
from rl.lora.adapter import add_lora
from rl.lora.export import export_lora
from rl.models.flow_pipeline import FlowPolicy
from rl.rewards.loading import Reward, RewardSet
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate
from rl.updates.direct import DirectUpdate
from rl.updates.nft import NFTUpdate
from tests.rl.models.flow_pipelines import BUILDERS, RESOLUTIONS, build

RULES = {"ddpo": (DDPOConfig, DDPOUpdate), "nft": (NFTConfig, NFTUpdate), "direct": (DirectConfig, DirectUpdate)}
PROMPTS = ["a red ring", "two blue squares"]


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps the precision of the first run of a process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def redness(images, prompts, metadata):
    return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2)), {}


def make_trainer(name, rule, pipeline, run, **changes):
    config_class, update_class = RULES[rule]
    values = {
        "output_dir": str(run), "num_epochs": 1, "sample_num_steps": 2, "sample_batch_size": 4, "lora_rank": 2,
        "sample_num_batches_per_epoch": 1, "sample_guidance_scale": 1.0, "resolution": RESOLUTIONS[name],
        "lora_alpha": 4.0, "train_learning_rate": 1e-2, "log_with": None, "num_threads": 1,
    } | ({} if rule == "direct" else {"sample_group_size": 4, "train_batch_size": 4})  # fmt: skip
    rewards = RewardSet([Reward("redness", redness)], keep_graph=update_class.needs_gradients)
    return Trainer(config_class(**(values | changes)), pipeline, rewards, PROMPTS, update_class)


def state(pipeline):
    """Every weight and buffer of a pipeline; those of a layer with a LoRA under their old names."""
    return {
        f"{name}.{key.replace('.base_layer', '')}": value.clone()
        for name, module in pipeline.components.items() if isinstance(module, torch.nn.Module)
        for key, value in module.state_dict().items()
    }  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_a_step_changes_the_lora_and_nothing_else(name, tmp_path):
    pipeline = build(name, tmp_path)
    for rule in ("ddpo", "nft"):
        trained = copy.deepcopy(pipeline)
        before = state(trained)
        # NFT samples under the pipeline's own guidance.
        guided = {"sample_guidance_scale": 2.5} if rule == "nft" else {}
        trainer = make_trainer(name, rule, trained, tmp_path / rule, **guided)
        start = [parameter.detach().clone() for parameter in trainer.lora]
        summary = trainer.train()
        after = state(trained)
        own = {key for key in after if ".lora_" in key}
        assert own and before.keys() == after.keys() - own
        assert all(torch.equal(value, after[key]) for key, value in before.items())
        moved = [not torch.equal(old, new) for old, new in zip(start, trainer.lora, strict=True)]
        assert any(moved) and summary["epochs"] == 1
        metrics = (tmp_path / rule / "metrics.csv").read_text().splitlines()
        row = dict(zip(metrics[0].split(","), metrics[1].split(","), strict=True))
        assert math.isfinite(float(row["loss"])) and float(row["grad_norm"]) > 0
        if rule == "ddpo":
            assert float(row["ratio_mean"]) == 1 and float(row["approx_kl"]) == 0


@pytest.mark.parametrize("name", ["sd3", "z_image"])
def test_in_half_precision_the_ratio_is_one(name, tmp_path, fresh_accelerate):
    pipeline = build(name, tmp_path)
    changes = {"mixed_precision": "bf16", "train_gradient_checkpointing": True, "flow_sampler": "cps"}
    trainer = make_trainer(name, "ddpo", pipeline, tmp_path / "run", **changes)
    trainer.train()
    metrics = [line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    row = dict(zip(*metrics, strict=True))
    assert pipeline.transformer.dtype == torch.bfloat16 and all(p.dtype == torch.float32 for p in trainer.lora)
    assert float(row["ratio_mean"]) == pytest.approx(1, abs=1e-5) and float(row["grad_norm"]) > 0


@pytest.mark.parametrize("rule", ["ddpo", "nft"])
def test_resumed_equals_uninterrupted_bit_for_bit(rule, tmp_path):
    pipeline = build("z_image", tmp_path)

    def run(folder, **changes):
        trainer = make_trainer("z_image", rule, copy.deepcopy(pipeline), tmp_path / folder, save_freq=1, **changes)
        trainer.train()
        return trainer.lora

    whole = run("whole", num_epochs=2)
    run("parts")
    torch.manual_seed(99)
    resumed = run("parts", num_epochs=2, resume_from=str(tmp_path / "parts"))
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_the_gradient_through_the_steps_is_the_slope(name, tmp_path):
    policy = FlowPolicy(build(name, tmp_path), num_steps=3, resolution=16)
    # No pixel saturates: there the straight-through clamp has a gradient that the clamp has not.
    policy.pipeline.vae.decoder.conv_out.weight.data.mul_(0.2)
    lora = add_lora(policy.denoiser, rank=2, alpha=4, targets=policy.lora_targets, seed=0)
    for parameter in lora:
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    conditioning = policy.conditioning(PROMPTS, 1.0)
    noise = policy._noise([1, 2])[0]

    def value():
        latents = noise
        for index in range(3):
            latents = policy.transition(index, latents, conditioning, 1.0)[1]
        images = policy.decode(latents)
        assert 0 < images.min() and images.max() < 1
        return (images[:, 0] - images[:, 1]).double().mean()

    value().backward()
    directions = [torch.sign(parameter.grad) for parameter in lora]
    slope = sum((parameter.grad * own).sum().item() for parameter, own in zip(lora, directions, strict=True))
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, own in zip(lora, directions, strict=True):
                parameter.add_(own, alpha=sign * 1e-3)
            ends.append(value().item())
            for parameter, own in zip(lora, directions, strict=True):
                parameter.sub_(own, alpha=sign * 1e-3)
    assert slope > 1e-4
    assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_direct_backpropagation_raises_the_reward(name, tmp_path):
    trainer = make_trainer(name, "direct", build(name, tmp_path), tmp_path / "run", num_epochs=4, backprop_steps=0)

    def reward():
        with torch.no_grad():
            latents = trainer.policy.rollout(PROMPTS, [1, 2], 1.0, log_probs=False).latents[-1]
            return redness(trainer.policy.decode(latents), PROMPTS, None)[0].mean().item()

    before = reward()
    trainer.train()
    assert reward() > before + 1e-4


def test_a_run_is_exported_for_plain_diffusers(tmp_path):
    pipeline = build("sd3", tmp_path)
    folder = tmp_path / "base"
    pipeline.save_pretrained(folder)
    trainer = make_trainer("sd3", "nft", pipeline, tmp_path / "run", model=str(folder))
    trainer.train()
    with torch.no_grad():
        for parameter in trainer.lora:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    from rl.lora.adapter import save_lora

    save_lora(pipeline.transformer, type(pipeline), tmp_path / "run")

    def picture(given):
        policy = FlowPolicy(given, num_steps=2, resolution=16)
        return policy.decode(policy.rollout(PROMPTS, [1, 2], 1.0, log_probs=False).latents[-1]).detach()

    from diffusers import DiffusionPipeline
    from peft import PeftModel

    expected = trainer.policy.decode(trainer.policy.rollout(PROMPTS, [1, 2], 1.0, log_probs=False).latents[-1]).detach()
    out = {kind: tmp_path / kind for kind in ("diffusers", "peft", "fused")}
    for kind, target in out.items():
        export_lora(tmp_path / "run", kind, target, license="other")
    plain, fused = DiffusionPipeline.from_pretrained(folder), DiffusionPipeline.from_pretrained(out["fused"])
    base = picture(plain)
    assert (base - expected).abs().max() > 1e-3
    plain.load_lora_weights(out["diffusers"])
    torch.testing.assert_close(picture(plain), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(picture(fused), expected, rtol=0, atol=1e-5)
    wrapped = DiffusionPipeline.from_pretrained(folder)
    # Merged, for a pipeline asks its transformer's own class what it is.
    wrapped.transformer = PeftModel.from_pretrained(wrapped.transformer, out["peft"]).merge_and_unload()
    torch.testing.assert_close(picture(wrapped), expected, rtol=0, atol=1e-5)
    names = load_file(out["diffusers"] / "pytorch_lora_weights.safetensors")
    assert all(key.startswith("transformer.") for key in names)
    card = (out["diffusers"] / "README.md").read_text()
    assert "stable-diffusion" not in card.split("---")[1]
    with pytest.raises(ValueError, match="format: expected one of diffusers, peft, fused .* transformer, got kohya"):
        export_lora(tmp_path / "run", "kohya", tmp_path / "kohya", license="other")
