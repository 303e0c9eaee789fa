import numpy as np
import pytest
import torch

from reward.trl_adapters import alignprop_reward, flow_grpo_reward


def test_ddpo_has_trls_shape_and_keeps_no_graph(reward, images, prompts):
    fn = reward.ddpo()
    rewards, info = fn(images.requires_grad_(), tuple(prompts), tuple({} for _ in prompts))
    assert info == {} and not rewards.requires_grad
    torch.testing.assert_close(rewards, reward(images.detach(), prompts))
    assert torch.as_tensor(rewards, device="cpu").shape == (4,)  # what TRL does with it


def test_ddpo_pytorch_may_pass_uint8_arrays(reward, images, prompts):
    array = (images.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    rewards, _ = reward.ddpo()(array, prompts, [{}] * 4)
    torch.testing.assert_close(rewards, reward(torch.from_numpy(array).permute(0, 3, 1, 2), prompts))


def test_alignprop_is_differentiable(reward, images, prompts):
    images.requires_grad_()
    rewards, info = alignprop_reward(reward)(images, prompts, [{}] * 4)
    (10.0 - rewards.mean()).backward()  # TRL's loss
    assert info == {} and images.grad.abs().sum() > 0


def test_flow_grpo(reward, images, prompts):
    details, info = flow_grpo_reward(reward)(images, prompts, [{}] * 4, only_strict=False)
    assert info == {} and set(details) == {"hyperalign", "avg"}
    assert details["avg"] == details["hyperalign"] == pytest.approx(reward(images, prompts).tolist())
