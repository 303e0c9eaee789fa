import math

import pytest
import torch

from reward import HyperAlign, HyperAlignConfig, fit_head
from reward.training.train import spearman

DIM = 12


def data(seed: int, count: int = 400):
    """Features whose shared part is the score, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, generator=generator)
    text = torch.randn(count, DIM, generator=generator)
    noise = torch.randn(count, DIM, generator=generator)
    image = scores[:, None] * text + (1 - scores[:, None]) * noise
    return 4 * image + 1, 2 * text + 0.5, scores


def fit(epochs=6, modulation="geometry", **options):
    torch.manual_seed(0)
    model = HyperAlign(HyperAlignConfig(embed_dim=DIM, adapter_hidden=8, modulation=modulation))
    history = fit_head(model, *data(0), epochs=epochs, batch_size=64, lr=5e-3, progress=False, **options)
    return model, history


@pytest.mark.parametrize("modulation", ["none", "cosine", "geometry"])
def test_it_learns(modulation):
    model, history = fit(modulation=modulation, val=data(1, 100))
    assert history["loss"][-1] < history["loss"][0]
    assert max(history["val_srcc"]) > 0.8
    image, text, scores = data(2, 200)
    assert spearman(model(image, text).score, scores) > 0.8
    assert set(history) == {
        "loss", "regression", "ranking", "entailment", "saturated_share", "std_text_radius",
        "val_regression", "val_srcc",
    }  # fmt: skip
    assert all(len(values) == 6 for values in history.values())


@pytest.mark.parametrize("entailment", ["paper", "weighted", "two_sided", None])
def test_every_entailment_form_trains(entailment):
    _, history = fit(epochs=2, entailment=entailment, lambda_ent=0.1, lambda_rank=0.0)
    assert all(math.isfinite(v) for values in history.values() for v in values)
    assert (max(history["entailment"]) == 0) == (entailment is None)
    if entailment is None:
        assert history["loss"] == history["regression"]


def test_equal_seeds_are_equal_and_others_are_not():
    first, second, other = fit(epochs=2)[0], fit(epochs=2)[0], fit(epochs=2, seed=1)[0]
    image, text, _ = data(3, 20)
    assert torch.equal(first(image, text).score, second(image, text).score)
    assert not torch.equal(first(image, text).score, other(image, text).score)


def test_the_best_validation_epoch_is_kept():
    val = data(1, 100)
    model, history = fit(val=val)
    score = model(*val[:2]).score
    assert (score - val[2]).square().mean().item() == pytest.approx(min(history["val_regression"]), rel=1e-4)


def test_with_patience_the_ranks_decide():
    val = data(1, 100)
    model, history = fit(val=val, patience=50)
    assert spearman(model(*val[:2]).score, val[2]) == max(history["val_srcc"])
    noise = (*val[:2], torch.rand(100, generator=torch.Generator().manual_seed(3)))
    assert len(fit(val=noise, patience=1, epochs=40)[1]["loss"]) < 40
    with pytest.raises(ValueError, match="Expected val with patience=3"):
        fit(patience=3)


def test_it_calibrates_and_leaves_flags_as_they_were():
    torch.manual_seed(0)
    model = HyperAlign(HyperAlignConfig(embed_dim=DIM, adapter_hidden=8)).requires_grad_(False)
    fit_head(model, *data(0), epochs=1, progress=False)
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    image, text, _ = data(0)
    assert model.image_norm.item() == pytest.approx(image.norm(dim=-1).mean().item(), rel=1e-5)
    assert model.text_norm.item() == pytest.approx(text.norm(dim=-1).mean().item(), rel=1e-5)


def test_bad_input():
    model = HyperAlign(HyperAlignConfig(embed_dim=DIM, adapter_hidden=8))
    image, text, scores = data(0, 10)

    def fails(message, *pairs, **options):
        with pytest.raises(ValueError, match=message):
            fit_head(model, *pairs, progress=False, **{"epochs": 1, **options})

    fails(r"Expected training features \(N, D\), \(N, D\) and scores \(N,\)", image, text, scores[:5])
    fails(r"Expected training scores in \[0, 1\] but got \[.*; rescale them", image, text, scores * 5)
    fails("Expected finite training image features but got NaN", image * math.nan, text, scores)
    fails("Expected at least one training pair but got none", image[:0], text[:0], scores[:0])
    fails("Expected image_features of shape", image[:, :3], text, scores)
    fails("Expected finite validation scores", image, text, scores, val=(image, text, scores * math.nan))
    fails("Expected epochs and batch_size of at least 1", image, text, scores, epochs=0)
    fails("The loss became nan in epoch 0; lower lr", image, text, scores, lambda_rank=math.nan)


def test_spearman():
    x = torch.tensor([1.0, 2.0, 3.0, 3.0])
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    assert math.isnan(spearman(x, torch.ones(4)))
