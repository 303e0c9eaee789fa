"""Each measure has a known answer on pictures made by hand, in every dtype."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from rl.monitoring.side_metrics import colour_entropy, diversity, edge_density, reduced, saturation, similarity

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def flat(*colour, side=12, dtype=torch.float32):
    return torch.tensor(colour, dtype=dtype).view(1, 3, 1, 1).expand(1, 3, side, side)


def noise(count=2, side=24, dtype=torch.float32, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_colour(dtype):
    picture = flat(1.0, 0.0, 0.0, dtype=dtype)
    assert colour_entropy(picture).tolist() == [0.0]
    assert edge_density(picture).tolist() == [0.0]
    assert saturation(picture).tolist() == [1.0]
    assert diversity(picture[:, None].expand(1, 3, 3, 12, 12)).tolist() == [0.0]
    assert similarity(picture, picture).tolist() == [1.0]
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert all(f(picture).dtype == expected for f in (colour_entropy, edge_density, saturation, reduced))


def test_entropy_of_equal_shares_is_their_log():
    picture = torch.zeros(2, 3, 8, 8)
    picture[0, 0, :, 4:] = 1.0  # black and red, half and half
    for place in range(4):  # four colours, a quarter each; 1.0 belongs to the last step
        picture[1, :, :, 2 * place : 2 * place + 2] = place / 3
    assert colour_entropy(picture).tolist() == pytest.approx([1.0, 2.0])
    # Every colour once: the upper end of the range.
    levels = torch.tensor([0.1, 0.3, 0.6, 0.9])
    every = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(1, 3, 8, 8)
    assert colour_entropy(every).item() == pytest.approx(6.0)
    assert colour_entropy(every, levels=2).item() == pytest.approx(3.0)


def test_entropy_is_of_joint_colours_not_of_channels():
    picture = torch.zeros(1, 3, 8, 8)
    picture[..., 4:] = 1.0  # black and white: one bit, although each of three channels has one
    assert colour_entropy(picture).item() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_of_a_step_and_of_ramps(dtype):
    step = torch.zeros(1, 3, 10, 10, dtype=dtype)
    step[..., 5:] = 1.0
    assert edge_density(step).item() == pytest.approx(2 / 8)
    assert edge_density(step.transpose(2, 3)).item() == pytest.approx(2 / 8)
    ramp = torch.arange(10, dtype=dtype).expand(1, 3, 10, 10)
    assert edge_density(ramp * 0.12).item() == 1.0  # 0.12 a pixel
    assert edge_density(ramp * 0.08).item() == 0.0


def test_edges_weigh_channels_by_luma():
    step = torch.zeros(3, 3, 10, 10)
    for channel in range(3):
        step[channel, channel, :, 5:] = 0.5  # slopes 0.07, 0.15, 0.03
    assert edge_density(step).tolist() == [0.0, 0.25, 0.0]


def test_saturation_is_hsv():
    assert saturation(flat(0.5, 0.5, 0.5)).item() == 0.0
    assert saturation(flat(0.0, 0.0, 0.0)).item() == 0.0
    assert saturation(flat(0.8, 0.2, 0.4)).item() == pytest.approx(0.75)
    assert saturation(torch.cat([flat(0.1, 0.0, 0.0), flat(1.0, 1.0, 1.0)], dim=3)).item() == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_similarity_is_scikit_images(dtype):
    images = noise(3, dtype=dtype)
    others = (0.6 * images + 0.4 * noise(3, dtype=dtype, seed=1)).clamp(0, 1)
    others[2] = images[2] * 0.2 + 0.7
    ours = similarity(images, others)
    for place in range(3):
        pair = [np.moveaxis(batch[place].double().numpy(), 0, 2) for batch in (images, others)]
        expected = structural_similarity(*pair, channel_axis=2, data_range=1.0)
        assert ours[place].item() == pytest.approx(expected, abs=1e-5 if dtype == torch.float32 else 1e-10)


def test_similarity_sees_structure_and_colour():
    images = noise(64)
    assert similarity(images, images).tolist() == pytest.approx([1.0] * 64)
    assert abs(similarity(images, noise(64, seed=1)).mean().item()) < 0.05
    assert similarity(images, 1 - images).max().item() < 0
    assert similarity(flat(0.6, 0.2, 0.2), flat(0.2, 0.6, 0.2)).item() < 0.8


def test_similarity_of_flat_pictures_is_not_rounding():
    base = flat(0.9, 0.9, 0.9, side=32)
    assert similarity(base, base + 1e-4).item() == pytest.approx(1.0, abs=1e-4)


def test_similarity_of_pictures_smaller_than_its_window():
    images = noise(2, side=4)
    assert similarity(images, images).tolist() == pytest.approx([1.0, 1.0])


def test_diversity_is_the_mean_over_pairs():
    black, white, grey = flat(0.0, 0.0, 0.0), flat(1.0, 1.0, 1.0), flat(0.5, 0.5, 0.5)
    groups = torch.stack([torch.cat([black, white, grey]), torch.cat([grey, grey, grey])])
    assert diversity(groups).tolist() == pytest.approx([(1 + 0.5 + 0.5) / 3, 0.0])
    red = torch.cat([black, flat(1.0, 0.0, 0.0)])[None]
    assert diversity(red).item() == pytest.approx(math.sqrt(1 / 3))


def test_reduced_averages_and_keeps_the_aspect():
    picture = noise(1, side=128)
    assert torch.allclose(reduced(picture), torch.nn.functional.avg_pool2d(picture, 2))
    assert reduced(torch.rand(1, 3, 100, 300)).shape == (1, 3, 21, 64)
    small = noise(1, side=48)
    assert torch.equal(reduced(small), small)


@pytest.mark.parametrize("function", [colour_entropy, edge_density, saturation, reduced])
def test_wrong_pictures_are_refused(function):
    with pytest.raises(ValueError, match=r"Expected floating-point images of shape \(B, 3, H, W\), got \(3, 8, 8\)"):
        function(torch.rand(3, 8, 8))
    with pytest.raises(ValueError, match="of torch.uint8"):
        function(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="Expected equal shapes"):
        similarity(noise(2), noise(1))
    with pytest.raises(ValueError, match="G >= 2"):
        diversity(noise(2)[:, None])
