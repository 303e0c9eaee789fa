"""Protocols on features whose truth is known: interaction is found, its absence too, and no prompt crosses."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from reward import HyperAlignConfig, HyperAlignReward
from reward.datasets import load_dataset
from reward.evaluation import protocols
from reward.evaluation.protocols import RatedFeatures, ablation, cross_database, evaluate_saved, single_database
from reward.statistics.correlations import correlations, spearman
from reward.training.recipe import TrainingConfig
from reward.training.train import train

DIM = 10
CONFIG = TrainingConfig(
    model=HyperAlignConfig(adapter_hidden=8), epochs=4, batch_size=32, lr_head=1e-2, lr_adapter=1e-2,
    test_share=0.25, val_share=0.15,
)  # fmt: skip
COSINE = dataclasses.replace(
    CONFIG, model=dataclasses.replace(CONFIG.model, adapter=False, modulation="none", entailment=None)
)


def rated(name="made up", seed=0, prompts=40, each=6, interaction=1.0, quality=0.6) -> RatedFeatures:
    """Scores = how much of the prompt's direction a picture has, and how well made it is (its first component)."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(prompts, DIM, generator=generator).repeat_interleave(each, 0)
    share = torch.rand(prompts * each, generator=generator)
    beauty = torch.randn(prompts * each, generator=generator)
    image = share[:, None] * text + (1 - share[:, None]) * torch.randn(prompts * each, DIM, generator=generator)
    image[:, 0] = beauty
    text[:, 0] = 0
    scores = interaction * 3 * share + quality * beauty
    names = tuple(f"{name} prompt {i // each}" for i in range(prompts * each))
    return RatedFeatures(name, image, text, names, scores.double().numpy())


@pytest.fixture(scope="module")
def found():
    return ablation(rated(quality=0.2), {"cosine": COSINE, "full": CONFIG}, seeds=(0, 1), samples=100, progress=False)


def test_rows_and_controls_are_all_there(found):
    controls = ["full: text-blind", "full: additive", "full: shuffled prompts", *protocols.RIDGES]
    assert [row.name for row in found.rows] == ["cosine", "full", *controls]
    assert [row.name for row in found.rows if row.is_control] == controls
    assert [(gap.row, gap.versus) for gap in found.gaps] == [("full", "cosine"), *(("full", c) for c in controls)]
    assert len(found.runs) == 2 * len(found.rows) and len(found.pairs["human"]) == 2 * 10 * 6


def test_without_controls_rows_are_the_same(found):
    configs = {"cosine": COSINE, "full": CONFIG}
    bare = ablation(rated(quality=0.2), configs, seeds=(0, 1), controls=False, samples=2, progress=False)
    assert not bare.controls and list(bare.predictions) == ["cosine", "full"]
    assert all(np.array_equal(values, found.predictions[row]) for row, values in bare.predictions.items())
    assert [(gap.row, gap.versus) for gap in bare.gaps] == [("full", "cosine")]


@pytest.mark.filterwarnings("ignore:No logistic was fitted")
def test_figures_are_those_of_the_predictions(found):
    for row in found.rows:
        per_split = []
        for split in (0, 1):
            of = found.pairs["split"] == split
            per_split.append(
                correlations(found.predictions[row.name][of], found.pairs["human"][of], found.pairs["prompt"][of])
            )
        assert row.means["srcc"] == pytest.approx(np.mean([s["srcc"] for s in per_split]))
        assert row.means["within_prompt_srcc"] == pytest.approx(np.mean([s["within_prompt_srcc"] for s in per_split]))
        assert row.srcc_std == pytest.approx(np.std([s["srcc"] for s in per_split], ddof=1))
        assert row.srcc_low < row.means["srcc"] < row.srcc_high
    srcc = {row.name: row.means["srcc"] for row in found.rows}
    for gap in found.gaps:
        assert gap.srcc == pytest.approx(srcc[gap.row] - srcc[gap.versus]) and gap.low <= gap.srcc <= gap.high


def test_controls_lose_where_the_pair_matters(found):
    srcc = {row.name: row.means["srcc"] for row in found.rows}
    assert srcc["full"] > 0.6
    for gap in found.gaps:
        if gap.versus in ("full: text-blind", "full: additive", "full: shuffled prompts", "ridge, additive"):
            assert gap.low > 0, gap
    # what is added to the ridge is the pair's cosine, nothing else
    assert srcc["ridge, additive + cosine"] > srcc["ridge, additive"]
    assert not any("no better" in note for note in found.notes)


def test_the_additive_twin_keeps_up_where_the_pair_does_not_matter():
    plain = rated(interaction=0.0, quality=1.0)
    result = single_database(plain, {"full": CONFIG}, seeds=(0,), samples=50, progress=False)
    srcc = {row.name: row.means["srcc"] for row in result.rows}
    assert srcc["full: additive"] > srcc["full"] - 0.1 and srcc["ridge, image"] > 0.95
    # it is said in words, too
    gaps = {gap.versus: gap for gap in result.gaps}
    assert gaps["full: text-blind"].low <= 0
    assert any("no better than one that never reads the prompt" in note for note in result.notes)


def test_equal_seeds_are_equal():
    data = rated(prompts=20)
    first, second = (single_database(data, {"c": COSINE}, seeds=(3,), samples=10, progress=False) for _ in range(2))
    assert first.rows == second.rows and first.gaps == second.gaps


def test_training_never_sees_a_tested_prompt(monkeypatch):
    data, seen = rated(prompts=20), []
    train_head = protocols.train_head

    def noted(config, train, val, **options):
        seen.append({tuple(text.tolist()) for pairs in (train, val) for text in pairs.text})
        return train_head(config, train, val, **options)

    monkeypatch.setattr(protocols, "train_head", noted)
    result = single_database(data, {"c": COSINE}, seeds=(0, 1), samples=10, progress=False)
    for split in (0, 1):
        tested = set(result.pairs["prompt"][result.pairs["split"] == split])
        texts = {tuple(t.tolist()) for t, p in zip(data.text, data.prompts, strict=True) if p in tested}
        assert texts and not texts & seen[split]


def test_cross_database_leaves_out_prompts_that_were_trained_on():
    one, other = rated("one", prompts=20), rated("other", seed=1, prompts=12)
    renamed = tuple("ONE  Prompt 3" if p == "other prompt 0" else p for p in other.prompts)
    other = dataclasses.replace(other, prompts=renamed, scores=other.scores * 20 + 7)
    result = cross_database(one, other, {"cosine": COSINE}, seeds=(0, 1), samples=10, progress=False)
    assert len(result.pairs["human"]) == 2 * 11 * 6 and "one prompt 3" not in set(result.pairs["prompt"])
    assert "6 of 72 test pairs were left out, because one has their prompts too" in result.notes
    assert (result.trained_on, result.tested_on) == ("one", "other") and result.rows[0].means["srcc"] > 0.5


def test_shuffling_gives_every_row_another_prompt():
    prompts = ["a", "a", "b", "c", "c", "c"]
    for seed in range(20):
        others = protocols._others_prompts(prompts, seed)
        assert all(prompts[o] != p for o, p in zip(others, prompts, strict=True))


def test_refusals():
    with pytest.raises(ValueError, match="at least one config"):
        single_database(rated(), {}, progress=False)
    with pytest.raises(ValueError, match="Expected a frozen backbone in row 'a'"):
        single_database(rated(), {"a": dataclasses.replace(CONFIG, fine_tune=True)}, progress=False)
    with pytest.raises(ValueError, match="Expected equal test_share and val_share"):
        single_database(rated(), {"a": CONFIG, "b": dataclasses.replace(CONFIG, val_share=0.3)}, progress=False)


def test_a_saved_model(rated_table, backbone_name, tmp_path):
    dataset = load_dataset("table", rated_table)
    config = dataclasses.replace(
        CONFIG, epochs=1, batch_size=16, model=HyperAlignConfig(backbone=backbone_name, adapter_hidden=8)
    )
    metrics = train(config, dataset, tmp_path / "run", progress=False)
    model = HyperAlignReward.from_pretrained(tmp_path / "run")
    data = RatedFeatures.of(dataset, model.backbone, None, progress=False)
    result = evaluate_saved(model, tmp_path / "run", data, samples=20)
    names = ["model", "text-blind", "additive", "shuffled prompts"]
    assert [row.name for row in result.rows] == names and result.trained_on == "table"
    assert result.rows[0].means["srcc"] == pytest.approx(metrics["test"]["srcc"], abs=1e-6)
    assert result.rows[2].means["srcc"] == pytest.approx(metrics["controls"]["additive"]["srcc"], abs=1e-6)
    assert math.isnan(result.rows[0].srcc_std) and "whose prompts the model was not trained on" in result.notes[0]
    tested = set(json.loads((tmp_path / "run" / "split.json").read_text())["prompts"]["test"])
    assert set(result.pairs["prompt"]) == tested
    bare = evaluate_saved(model, tmp_path, data, samples=20)
    assert len(bare.pairs["human"]) == len(dataset) and len(bare.rows) == 2
    assert "has no split.json" in bare.notes[0] and "No control models" in bare.notes[1]
    assert bare.rows[0].means["srcc"] == pytest.approx(spearman(bare.predictions["model"], dataset.scores))
