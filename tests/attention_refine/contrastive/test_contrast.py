"""The formulas, against plain numpy over seeds and shapes."""

import numpy as np
import pytest
import torch

from attention_refine.contrastive.contrast import hellinger, image_attention, quantile_mask


@pytest.mark.parametrize("seed", range(5))
def test_image_attention_is_a_distribution_over_the_image_tokens(seed):
    generator = torch.Generator().manual_seed(seed)
    row = torch.rand(3, 20, generator=generator).softmax(-1)
    is_image = torch.rand(3, 20, generator=generator) < 0.5
    is_image[2] = False
    a = image_attention(row, is_image)
    torch.testing.assert_close(a.sum(-1), torch.tensor([1.0, 1.0, 0.0]))
    assert (a[~is_image] == 0).all()
    torch.testing.assert_close(a[0] * row[0][is_image[0]].sum(), row[0] * is_image[0])


def test_a_row_without_attention_on_the_image_gives_no_nan():
    a = image_attention(torch.zeros(1, 4), torch.tensor([[True, True, False, False]]))
    assert (a == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_hellinger_by_its_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.rand(2, 4, 30, generator=generator, dtype=torch.float64).softmax(-1)
    expected = np.sqrt(((np.sqrt(p.numpy()) - np.sqrt(q.numpy())) ** 2).sum(-1)) / np.sqrt(2)
    np.testing.assert_allclose(hellinger(p, q), expected, rtol=1e-12)
    torch.testing.assert_close(hellinger(p, q), hellinger(q, p))
    torch.testing.assert_close(hellinger(p, q), (1 - (p * q).sqrt().sum(-1)).sqrt())  # Bhattacharyya's form


def test_hellinger_of_equal_and_of_disjoint_distributions():
    p = torch.tensor([0.5, 0.5, 0.0, 0.0])
    assert hellinger(p, p) == 0
    assert hellinger(p, p.flip(0)) == 1


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.2, 0.25, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("count", [1, 2, 5, 11, 576])
def test_the_mask_is_what_lies_below_numpys_quantile(rho, count):
    values = torch.rand(2, count, generator=torch.Generator().manual_seed(count))
    index = torch.zeros(2, count, dtype=torch.long)
    for sample in range(2):
        mine = quantile_mask(values, index, rho)[sample].numpy()
        numbers = values[sample].double().numpy()
        np.testing.assert_array_equal(mine, numbers < np.quantile(numbers, rho, method="higher") - 1e-15)


def test_the_quantile_is_each_images_own():
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.0, 10.0, 20.0, 30.0, 40.0]])
    index = torch.tensor([[0, 0, 0, 0, -1, 1, 1, 1, 1]])
    chosen = quantile_mask(values, index, 0.5)
    assert chosen.tolist() == [[True, True, False, False, False, True, True, False, False]]


def test_no_image_no_mask():
    assert not quantile_mask(torch.zeros(2, 3), torch.full((2, 3), -1), 0.5).any()
    assert quantile_mask(torch.zeros(0, 3), torch.full((0, 3), -1), 0.5).shape == (0, 3)
