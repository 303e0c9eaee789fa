import dataclasses

import pytest
import torch

from reward import HyperAlignReward
from reward.model.pooling import TEMPERATURE, pool_columns
from tinyworld import weights_path

SHORT = ["a red ring", "two blue squares"]
LONG = "a red ring left of a blue square. nobody waits for the rain. there is a long way to go from here to there"


def test_the_weights_are_a_softmax_over_each_prompts_own_portions():
    scores = torch.tensor([[0.2, 0.8, 0.5], [0.1, 0.1, 900.0]])
    pooled = pool_columns(scores, [0, 0, 1], 2)
    for row in range(2):
        own = scores[row, :2]
        assert pooled[row, 0] == pytest.approx(((own / TEMPERATURE).softmax(0) * own).sum().item(), abs=1e-6)
        assert pooled[row, 1] == scores[row, 2]


@pytest.fixture(scope="module")
def pooling():
    reward = HyperAlignReward.from_pretrained(weights_path("hyperalign"))
    return HyperAlignReward(dataclasses.replace(reward.config, long_prompts="pool"), reward.head, reward.backbone)


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def test_short_prompts_score_as_ever(pooling, images):
    cutting = HyperAlignReward.from_pretrained(weights_path("hyperalign"))
    assert torch.equal(pooling(images, SHORT), cutting(images, SHORT))


@pytest.mark.filterwarnings("error")  # nothing is cut
def test_call_explain_and_matrix_agree(pooling, images):
    prompts = [LONG, "a red ring"]
    matrix = pooling.score_matrix(images, prompts)
    assert torch.allclose(pooling(images, prompts), matrix.diag(), atol=1e-5)
    assert torch.allclose(pooling(images, LONG), matrix[:, 0], atol=1e-5)
    whole = pooling.explain(images, prompts)
    assert all(value.shape == (2,) and value.isfinite().all() for value in whole)
    parts = [pooling(images, part) for part in ("a red ring left of a blue square.", "a red ring")]
    assert matrix[:, 0].max() <= torch.stack([*parts, pooling(images, "nobody waits for the rain.")]).max() + 0.2


def test_gradients_reach_the_pixels(pooling, images):
    pictures = images.clone().requires_grad_(True)
    pooling(pictures, [LONG, LONG]).sum().backward()
    assert pictures.grad.isfinite().all() and pictures.grad.abs().sum() > 0


def test_what_comes_last_counts(pooling, images):
    first = pooling(images, f"{LONG}. a red ring")
    assert not torch.allclose(first, pooling(images, f"{LONG}. two blue squares"), atol=1e-4)
