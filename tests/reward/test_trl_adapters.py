import asyncio
import inspect

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from reward.trl_adapters import alignprop_reward, caption_reward, flow_grpo_reward, grpo_reward


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


def said(text):
    """A completion as TRL hands it over in a conversation."""
    return [{"role": "assistant", "content": text}]


def test_grpo_scores_completions_against_the_column_of_pictures(reward, images, prompts):
    pictures = [to_pil_image(image) for image in images]
    local = reward(pictures, prompts).tolist()
    columns = {"prompts": ["Describe it."] * 4, "completion_ids": [[1]] * 4, "trainer_state": object()}
    fn = grpo_reward(reward)
    assert fn(completions=prompts, image=pictures, **columns) == local
    assert all(type(score) is float for score in fn(completions=prompts, image=pictures, **columns))
    assert fn(completions=[said(prompt) for prompt in prompts], image=pictures, **columns) == local
    parts = [said([{"type": "text", "text": prompt}]) for prompt in prompts]
    assert fn(completions=parts, image=pictures, **columns) == local
    one_each = grpo_reward(reward, image_column="images")
    assert one_each(completions=prompts, images=[[picture] for picture in pictures], **columns) == local
    assert fn.__name__ == "hyperalign" and not inspect.iscoroutinefunction(fn)


def test_grpo_asynchronously(reward, images, prompts):
    fn = grpo_reward(reward, asynchronous=True)
    assert inspect.iscoroutinefunction(fn)
    scores = asyncio.run(fn(completions=prompts, image=list(images), prompts=[], completion_ids=[]))
    assert scores == grpo_reward(reward)(completions=prompts, image=list(images))


def test_grpo_errors(reward, images, prompts):
    with pytest.raises(KeyError, match="column 'image' in the dataset but got images, other; set image_column"):
        grpo_reward(reward)(completions=prompts, images=list(images), other=[1])
    with pytest.raises(ValueError, match="one picture a row in the column 'image' but got 2"):
        grpo_reward(reward)(completions=prompts, image=[[image, image] for image in images])
    with pytest.raises(ValueError, match="4 pictures, one a completion, but got 3"):
        grpo_reward(reward)(completions=prompts, image=list(images[:3]))


class Check:
    def prompt_yes(self, images, prompts):
        return torch.arange(len(images)) / 8

    def caption_coverage(self, images, prompts):
        assert not torch.is_grad_enabled()
        return torch.full((len(images),), 0.5)


def test_caption_reward(images, prompts):
    columns = {"completions": prompts, "image": list(images), "prompts": [], "completion_ids": []}
    assert caption_reward(Check())(**columns) == [0.0, 0.125, 0.25, 0.375]
    assert caption_reward(Check(), measure="caption_coverage")(**columns) == [0.5] * 4
    assert asyncio.run(caption_reward(Check(), asynchronous=True)(**columns)) == [0.0, 0.125, 0.25, 0.375]
    assert caption_reward(Check()).__name__ == "caption_prompt_yes"
    with pytest.raises(ValueError, match="measure to be one of .* but got 'score'"):
        caption_reward(Check(), measure="score")
