import pytest

import reward.training.train
from reward import HyperAlignConfig
from reward.datasets import load_dataset
from reward.language.statements import share_kept
from reward.training.hard_negatives import hard_negatives
from reward.training.recipe import TrainingConfig
from reward.training.train import train

PROMPTS = 25 * [
    "a red ring left of a blue square", "two red rings", "a green triangle", "a red ring above a blue square",
]  # fmt: skip
SCORES = [0.9, 0.8, 1.0, 0.2] * 25


def test_only_well_rated_pairs_are_swapped_and_their_targets_are_lower():
    rows, changed, targets = hard_negatives(PROMPTS, SCORES, 1.0, seed=0)
    assert len(rows) == 75 and all(SCORES[row] >= 0.5 for row in rows)
    for row, prompt, target in zip(rows, changed, targets, strict=True):
        assert prompt != PROMPTS[row]
        assert target == pytest.approx(SCORES[row] * share_kept(PROMPTS[row], prompt)) and target < SCORES[row]


def test_every_kind_of_fact_is_swapped():
    _, changed, _ = hard_negatives(PROMPTS, SCORES, 1.0, seed=0)
    relations = [p for p in changed if any(f" {r} " in p for r in ("right of", "below"))]
    assert len(relations) > 5
    assert any(p.startswith(("a red ring", "three", "four")) and "square" not in p for p in changed)  # numbers
    assert any("triangle" not in p and "green" in p for p in changed)  # a thing


def test_share_and_seed():
    assert hard_negatives(PROMPTS, SCORES, 0.0, seed=0) == ([], [], [])
    half = hard_negatives(PROMPTS, SCORES, 0.5, seed=0)
    assert 20 < len(half[0]) < 55 and half == hard_negatives(PROMPTS, SCORES, 0.5, seed=0)
    assert half != hard_negatives(PROMPTS, SCORES, 0.5, seed=1)


@pytest.mark.parametrize("fine_tune", [False, True])
def test_a_run_trains_on_them(rated_table, backbone_name, tmp_path, monkeypatch, fine_tune):
    """The training part alone grows, by pairs of its own pictures."""
    seen = {}
    fit = reward.training.train.train_head

    def watched(config, train, val, **options):
        seen[config.hard_negatives] = (len(train), len(val))
        return fit(config, train, val, **options)

    monkeypatch.setattr(reward.training.train, "train_head", watched)
    model = HyperAlignConfig(backbone=backbone_name, adapter_hidden=8)
    for share in (0.0, 1.0):
        config = TrainingConfig(
            model=model, epochs=1, batch_size=16, val_share=0.25, controls=False, hard_negatives=share,
            fine_tune=fine_tune,
        )  # fmt: skip
        train(config, load_dataset("table", rated_table), tmp_path / f"run{share}", progress=False)
    assert seen[0.0][1] == seen[1.0][1]
    assert seen[0.0][0] < seen[1.0][0] <= 2 * seen[0.0][0]
