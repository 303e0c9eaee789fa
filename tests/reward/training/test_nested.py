import csv

import pytest
import torch

from reward import HyperAlign, HyperAlignConfig
from reward.datasets import load_dataset
from reward.language.statements import share_kept
from reward.model.losses import nesting_loss
from reward.training.nested import nested_prompts, shorter_prompts
from reward.training.recipe import TrainingConfig
from reward.training.train import fit_head, train
from tinyworld.scenes import train_prompts


def test_shorter_prompts_are_implied():
    assert set(shorter_prompts("a red ring left of a square")) == {
        "a square", "a red ring and a square", "a red ring", "a ring",
    }  # fmt: skip
    assert shorter_prompts("two rings") == ["rings", "a ring"]
    assert shorter_prompts("a ring") == []


def test_nested_prompts_are_implied_and_foreign_ones_are_not():
    prompts = train_prompts()[::9]
    rows, own, foreign = nested_prompts(prompts, seed=0)
    assert len(rows) > 0.95 * len(prompts) and rows == sorted(rows)
    for row, shorter, other in zip(rows, own, foreign, strict=True):
        assert share_kept(prompts[row], shorter) == 1 > share_kept(prompts[row], other)
    assert nested_prompts(prompts, seed=0) == (rows, own, foreign)


def test_the_loss_is_zero_where_own_cones_hold_and_foreign_ones_do_not():
    angle, aperture = torch.tensor([0.2, 0.4]), torch.tensor([0.5, 0.6])
    assert nesting_loss(angle, aperture, aperture, angle) == 0
    assert nesting_loss(aperture, angle, aperture, angle) == pytest.approx((0.3 + 0.1 + 0.2 + 0.1) / 2)
    assert nesting_loss(angle, aperture, angle, aperture) == pytest.approx((0.3 + 0.1 + 0.2 + 0.1) / 2)
    assert nesting_loss(*torch.zeros(4, 0)) == 0


@pytest.fixture
def world():
    """Prompts are sums of their phrases' features: the broader one is shorter."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(256, 16, generator=generator)
    text = own + torch.randn(256, 16, generator=generator)
    image = text + 0.3 * torch.randn(256, 16, generator=generator)
    return image, text, torch.rand(256, generator=generator), own


def test_cones_of_shorter_prompts_hold_the_longer_ones(world):
    image, text, scores, own = world
    nested = (torch.arange(256), own, own.roll(1, 0))
    held = {}
    for form in (None, "compositional"):
        torch.manual_seed(0)
        head = HyperAlign(HyperAlignConfig(embed_dim=16, radius="learned", lambda_ent=1.0, entailment=form))
        fit_head(head, image, text, scores, nested=nested, epochs=60, batch_size=64, lr=1e-2, progress=False)
        with torch.no_grad():
            angle, aperture = head.text_entailment(own, text)
            foreign_angle, foreign_aperture = head.text_entailment(own.roll(1, 0), text)
        held[form] = ((angle < aperture).float().mean() - (foreign_angle < foreign_aperture).float().mean()).item()
    assert held["compositional"] > 0.9 and held[None] < 0.3


def test_the_cone_of_a_prompt_is_what_pairs_see(world):
    image, text, _, own = world
    head = HyperAlign(HyperAlignConfig(embed_dim=16))
    head.calibrate(image, text)
    assert torch.allclose(head.text_entailment(text, own)[1], head(image, text).half_aperture)


def test_a_run_with_compositional_entailment(rated_table, backbone_name, tmp_path):
    """Its loss differs from the two-sided form's by the prompts' own part."""
    losses = {}
    for form in ("two_sided", "compositional"):
        model = HyperAlignConfig(backbone=backbone_name, adapter_hidden=8, entailment=form)
        config = TrainingConfig(model=model, epochs=1, batch_size=64, val_share=0.25, controls=False)
        train(config, load_dataset("table", rated_table), tmp_path / form, progress=False)
        with (tmp_path / form / "history.csv").open() as file:
            losses[form] = float(next(csv.DictReader(file))["entailment"])
    assert losses["compositional"] > losses["two_sided"]


def test_without_shorter_prompts_a_compositional_loss_is_refused():
    head = HyperAlign(HyperAlignConfig(embed_dim=8, entailment="compositional"))
    image, text, scores = torch.randn(12, 8), torch.randn(12, 8), torch.rand(12)
    with pytest.raises(ValueError, match="shorter prompts with entailment 'compositional' but got none"):
        fit_head(head, image, text, scores, epochs=1, progress=False)
    fit_head(head, image, text, scores, epochs=1, lambda_ent=0.0, progress=False)


def test_a_backbone_that_trains_cannot_have_it():
    model = HyperAlignConfig(embed_dim=8, entailment="compositional")
    with pytest.raises(ValueError, match="fine_tune false with entailment 'compositional'"):
        TrainingConfig(model=model, fine_tune=True)
