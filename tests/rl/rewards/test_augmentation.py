import pytest
import torch

from rl.rewards.augmentation import random_views

IMAGES = torch.rand(3, 3, 24, 32, generator=torch.Generator().manual_seed(0))


def test_strength_0_is_the_picture_itself():
    assert random_views(IMAGES, 0.0, [0, 1, 2]) is IMAGES


def test_a_view_is_a_function_of_its_seed_alone():
    views = random_views(IMAGES, 0.2, [5, 6, 7])
    assert views.shape == IMAGES.shape
    assert torch.equal(random_views(IMAGES[1:2], 0.2, [6])[0], views[1])
    assert not torch.equal(random_views(IMAGES, 0.2, [8, 6, 7])[0], views[0])


@pytest.mark.parametrize("strength", [0.05, 0.15])
def test_a_plain_picture_stays_plain_but_for_noise_of_that_size(strength):
    views = random_views(torch.full((4, 3, 64, 64), 0.5), strength, range(4))
    assert views.mean().item() == pytest.approx(0.5, abs=0.01)
    assert views.std().item() == pytest.approx(strength, rel=0.05)


def test_gradients_reach_the_pixels():
    images = IMAGES.clone().requires_grad_()
    random_views(images, 0.2, [0, 1, 2]).sum().backward()
    assert images.grad.abs().sum(dim=(1, 2, 3)).min() > 0


def test_white_stays_within_what_a_reward_accepts_and_still_has_gradients():
    images = torch.ones(2, 3, 16, 16, requires_grad=True)
    views = random_views(images, 0.3, [0, 1])
    assert views.min() >= 0
    assert views.max() <= 1
    views.sum().backward()
    assert images.grad.sum().item() == pytest.approx(images.numel(), rel=1e-5)
