import math

import pytest
import torch

from reward.model.losses import entailment_loss, ranking_loss, regression_loss, saturated_share


def test_regression_is_the_mean_squared_error():
    assert regression_loss(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 1.0])).item() == pytest.approx(0.125)


def test_ranking_prefers_the_right_order():
    target = torch.tensor([0.0, 0.5, 1.0])
    assert ranking_loss(target, target) < 0.01 < ranking_loss(torch.zeros(3), target) < ranking_loss(-target, target)
    assert ranking_loss(torch.zeros(3), target).item() == pytest.approx(math.log(2))


def test_ranking_ignores_ties_and_has_a_gradient_without_pairs():
    score = torch.tensor([0.1, 0.9], requires_grad=True)
    loss = ranking_loss(score, torch.tensor([0.5, 0.51]))
    loss.backward()
    assert loss.item() == 0 and torch.equal(score.grad, torch.zeros(2))


def test_entailment_forms():
    phi, delta = torch.tensor([1.0, 1.0, 0.2, 0.2]), torch.full((4,), 0.5)
    s = torch.tensor([1.0, 0.0, 1.0, 0.0])
    # by hand: contracted cones are 0.1 and 0.5 wide
    assert entailment_loss(phi, delta, s, "paper").item() == pytest.approx((0.9 + 0.5 + 0.1 + 0.0) / 4)
    assert entailment_loss(phi, delta, s, "weighted").item() == pytest.approx((0.9 + 0.0 + 0.1 + 0.0) / 4)
    assert entailment_loss(phi, delta, s, "two_sided").item() == pytest.approx((0.9 + 0.0 + 0.1 + 0.3) / 4)
    assert entailment_loss(phi, delta, s, None).item() == 0


def test_only_the_two_sided_form_pushes_bad_images_out():
    gradients = {}
    for form in ("paper", "weighted", "two_sided"):
        phi = torch.tensor([0.2, 1.0], requires_grad=True)
        entailment_loss(phi, torch.full((2,), 0.5), torch.zeros(2), form).backward()
        gradients[form] = phi.grad.sign().tolist()
    assert gradients == {"paper": [0, 1], "weighted": [0, 0], "two_sided": [-1, 0]}


def test_unknown_form():
    with pytest.raises(ValueError, match="Expected entailment to be .*'compositional' or None but got 'both'"):
        entailment_loss(torch.ones(1), torch.ones(1), torch.ones(1), "both")


def test_saturated_share():
    assert saturated_share(torch.tensor([math.pi / 2, 1.0, 0.5, math.pi / 2])).item() == 0.5
