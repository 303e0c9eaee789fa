"""The losses of NFT, matching and DPO: reference values to 60 digits, finite differences, closed forms."""

import json
from pathlib import Path

import pytest
import torch

from rl.updates.dpo import dpo_loss
from rl.updates.forward import squared_error
from rl.updates.matching import matching_loss
from rl.updates.nft import nft_loss

CASES = json.loads((Path(__file__).parents[2] / "data" / "forward_losses.json").read_text())["cases"]


def case_tensors(case):
    """Clean latents, their noise level and each model's clean prediction from its velocity, float64."""
    values = {name: torch.tensor(case[name], dtype=torch.float64) for name in ("sigma", "clean", "noise", "advantage")}
    sigma, clean = values["sigma"][:, None], values["clean"]
    noised = (1 - sigma) * clean + sigma * values["noise"]
    predictions = {
        name: noised - sigma * torch.tensor(case[f"velocity_{name}"], dtype=torch.float64)
        for name in ("new", "old", "reference")
    }
    return clean, sigma, values["advantage"], predictions


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_reference_values(case):
    clean, sigma, advantages, predictions = case_tensors(case)
    new, old, reference = predictions["new"], predictions["old"], predictions["reference"]
    found = nft_loss(new, old, clean, advantages, case["beta"], case["advantage_clip"])
    torch.testing.assert_close(found, torch.tensor(case["nft_loss"], dtype=torch.float64), rtol=1e-10, atol=1e-10)
    errors = [squared_error(prediction, clean, sigma) for prediction in (new, old, reference)]
    loss, ratio = matching_loss(errors[0], errors[1], advantages, case["clip_range"])
    expected = torch.tensor(case["matching_log_ratio"], dtype=torch.float64)
    torch.testing.assert_close(ratio.log(), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(loss, torch.tensor(case["matching_loss"], dtype=torch.float64), rtol=1e-10, atol=1e-10)
    one, other = case["dpo"]["chosen"], case["dpo"]["rejected"]
    preferred = dpo_loss(errors[0][one], errors[0][other], errors[2][one], errors[2][other], case["dpo"]["beta"])
    assert preferred.item() == pytest.approx(case["dpo"]["loss"], rel=1e-10)


@pytest.fixture
def random():
    torch.manual_seed(3)
    clean, old = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64)
    new = (old + 0.3 * torch.randn_like(old)).requires_grad_()
    return new, old, clean, torch.tensor([1.5, -2.0, 0.3, -0.1], dtype=torch.float64)


@pytest.mark.parametrize("clip_range", [0.0, 0.5])
def test_matching_agrees_with_finite_differences(random, clip_range):
    new, old, clean, advantages = random
    old_error = squared_error(old, clean)
    assert torch.autograd.gradcheck(
        lambda x: matching_loss(squared_error(x, clean), old_error, advantages, clip_range)[0], (new,)
    )


def test_dpo_agrees_with_finite_differences(random):
    new, old, clean, _ = random
    theirs = squared_error(old, clean)

    def loss(prediction):
        own = squared_error(prediction, clean)
        return dpo_loss(own[:2], own[2:], theirs[:2], theirs[2:], 3.0)

    assert torch.autograd.gradcheck(loss, (new,))


@pytest.mark.parametrize("beta", [0.1, 1.0, 2.0])
def test_nft_agrees_with_finite_differences_of_the_frozen_weights(random, beta):
    """The weights 1 / mean |p - x0| are constants of the gradient: they are held while differences are taken."""
    new, old, clean, advantages = random
    nft_loss(new, old, clean, advantages, beta, 5.0).sum().backward()
    share = advantages.clamp(-5, 5) / 10 + 0.5

    def mixed(prediction):
        return beta * prediction + (1 - beta) * old, (1 + beta) * old - beta * prediction

    sizes = [(p.detach() - clean).abs().flatten(1).mean(1) for p in mixed(new)]

    def frozen(prediction):
        positive, negative = (squared_error(p, clean) / size for p, size in zip(mixed(prediction), sizes, strict=True))
        return (5.0 / beta * (share * positive + (1 - share) * negative)).sum()

    step = 1e-6
    for place in [(0, 0, 0, 0), (1, 2, 1, 0), (3, 1, 0, 1)]:
        ahead, behind = new.detach().clone(), new.detach().clone()
        ahead[place] += step
        behind[place] -= step
        assert new.grad[place].item() == pytest.approx((frozen(ahead) - frozen(behind)).item() / (2 * step), rel=1e-6)


def test_nfts_gradient_where_old_is_new_is_the_advantage_times_the_error(random):
    """p+ = p- = old there, and c (2 r - 1) = A: d loss / d new = A 2 (old - x0) / (D m)."""
    _, old, clean, advantages = random
    new = old.clone().requires_grad_()
    nft_loss(new, old, clean, advantages, 0.7, 5.0).sum().backward()
    size = (old - clean).abs().flatten(1).mean(1).view(-1, 1, 1, 1)
    expected = advantages.view(-1, 1, 1, 1) * 2 * (old - clean) / (clean[0].numel() * size)
    torch.testing.assert_close(new.grad, expected, rtol=1e-10, atol=1e-12)


def test_advantages_beyond_the_clip_count_as_the_clip(random):
    new, old, clean, _ = random
    beyond = nft_loss(new, old, clean, torch.tensor([9.0, -9.0, 5.0, -5.0]), 1.0, 5.0)
    at = nft_loss(new, old, clean, torch.tensor([5.0, -5.0, 5.0, -5.0]), 1.0, 5.0)
    torch.testing.assert_close(beyond, at)


def test_an_exact_prediction_has_a_finite_gradient(random):
    clean = random[2]
    new = clean.clone().requires_grad_()
    nft_loss(new, clean.clone(), clean, torch.tensor([1.0, -1.0, 0.0, 5.0]), 1.0, 5.0).sum().backward()
    assert torch.isfinite(new.grad).all()
