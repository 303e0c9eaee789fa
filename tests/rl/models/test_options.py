import pytest
import torch
import torch.utils.checkpoint

from rl.config.ddpo_config import DDPOConfig
from rl.lora.adapter import add_lora
from rl.models.options import prepare_pipeline
from rl.models.stable_diffusion import StableDiffusionPolicy

PROMPTS = ["a red circle", "a blue square"]


def make_policy(pipeline, **changes):
    prepare_pipeline(pipeline, DDPOConfig(**changes), torch.device("cpu"))
    policy = StableDiffusionPolicy(pipeline, num_steps=4)
    lora = add_lora(pipeline.unet, rank=4, alpha=8, targets=["to_q", "to_v"], seed=0)
    for number, parameter in enumerate(lora):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    return policy, lora


def gradients(policy, lora):
    rollout = policy.rollout(PROMPTS, [0, 1], 3.0)
    conditioning = policy.conditioning(PROMPTS, 3.0)
    value = policy.log_prob(1, rollout.latents[1], rollout.latents[2], conditioning, 3.0)
    value.sum().backward()
    found = [parameter.grad.clone() for parameter in lora]
    for parameter in lora:
        parameter.grad = None
    return rollout, value.detach(), found


def test_gradient_checkpointing_gives_the_same_gradients_and_is_used(tiny_pipeline, monkeypatch):
    policy, lora = make_policy(tiny_pipeline)
    _, value, plain = gradients(policy, lora)
    calls = []
    original = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(
        torch.utils.checkpoint, "checkpoint", lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs)
    )
    prepare_pipeline(tiny_pipeline, DDPOConfig(train_gradient_checkpointing=True), torch.device("cpu"))
    _, again, checkpointed = gradients(policy, lora)
    assert calls, "no block was checkpointed"
    assert torch.equal(value, again)
    for one, two in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("option", ["vae_slicing", "vae_tiling"])
def test_decoding_in_parts_gives_the_same_pictures(tiny_pipeline, option):
    policy, _ = make_policy(tiny_pipeline)
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = policy.decode(latents)
    prepare_pipeline(tiny_pipeline, DDPOConfig(**{option: True}), torch.device("cpu"))
    assert getattr(tiny_pipeline.vae, option.replace("vae", "use"))
    torch.testing.assert_close(policy.decode(latents), whole, rtol=0, atol=1e-5)


def test_a_compiled_unet_is_the_same_policy(tiny_pipeline, monkeypatch):
    policy, lora = make_policy(tiny_pipeline)
    rollout, value, plain = gradients(policy, lora)
    seen = []

    def backend(graph, inputs):
        # Compilation itself is torch's; what is ours is that the compiled module is the one that is called.
        seen.append(graph)
        return graph.forward

    original = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: original(self, backend=backend))
    prepare_pipeline(tiny_pipeline, DDPOConfig(torch_compile=True), torch.device("cpu"))
    compiled, value_again, grads = gradients(policy, lora)
    assert seen
    torch.testing.assert_close(compiled.latents, rollout.latents, rtol=0, atol=1e-4)
    torch.testing.assert_close(value_again, value, rtol=0, atol=1e-5)
    for one, two in zip(plain, grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_convolutions_over_frames_keep_their_layout(tiny_pipeline):
    tiny_pipeline.unet.frames = torch.nn.Conv3d(1, 1, 1)
    prepare_pipeline(tiny_pipeline, DDPOConfig(), torch.device("cpu"))
    assert tiny_pipeline.unet.frames.weight.dim() == 5
