"""The loop on features: the best epoch is kept, it stops, it goes on as if nothing had been."""

import dataclasses

import pytest
import torch

from reward import HyperAlignConfig
from reward.model.losses import Objective
from reward.training.fit_loop import fit, predict, spearman
from reward.training.pairs import FeaturePairs
from reward.training.recipe import TrainingConfig
from reward.training.train import new_head

DIM = 12
CONFIG = TrainingConfig(
    model=HyperAlignConfig(embed_dim=DIM, adapter_hidden=8), epochs=6, batch_size=24, lr_head=5e-3,
    lr_adapter=5e-3, patience=0,
)


def pairs(seed: int, count: int = 100) -> FeaturePairs:
    """Features whose shared part is the score, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, generator=generator)
    text, noise = (torch.randn(count, DIM, generator=generator) for _ in range(2))
    image = scores[:, None] * text + (1 - scores[:, None]) * noise
    return FeaturePairs(new_head(CONFIG), 4 * image + 1, 2 * text + 0.5, scores, "test's")


def run(config=CONFIG, train=None, val=None, **options):
    head, train = new_head(config), pairs(0) if train is None else train
    head.calibrate(train.image, train.text)
    objective = Objective.of(config.model)
    val = pairs(1, 50) if val is None else val
    return head, fit(head, train, val, objective, config, progress=False, **options)


def unrelated() -> FeaturePairs:
    """Validation pairs that training cannot help: their scores are noise, their SRCC wanders."""
    val = pairs(1, 50)
    val.scores = torch.rand(50, generator=torch.Generator().manual_seed(3))
    return val


def same(first, second) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_keep_epoch_last_ends_where_training_ends():
    val = unrelated()
    last, history = run(dataclasses.replace(CONFIG, keep_epoch="last"), val=val)
    best, _ = run(val=val)
    assert max(history["val_srcc"]) > history["val_srcc"][-1], "the last epoch is the best: this val shows nothing"
    assert spearman(predict(last, val), val.scores) == pytest.approx(history["val_srcc"][-1])
    assert spearman(predict(best, val), val.scores) == pytest.approx(max(history["val_srcc"]))
    assert not same(last, best)


def test_interrupted_and_resumed_equals_uninterrupted_bit_by_bit(tmp_path):
    whole, expected = run(state_path=tmp_path / "whole")
    seen = []

    def interrupt():
        seen.append(0)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        run(state_path=tmp_path / "cut", watch=interrupt)
    torch.manual_seed(999)  # of no account
    resumed, history = run(state_path=tmp_path / "cut", resume=True)
    assert same(whole, resumed) and history == expected
    # and the state after the end gives the end
    again, history = run(state_path=tmp_path / "cut", resume=True)
    assert same(whole, again) and history == expected


def test_resume_refuses_another_run(tmp_path):
    path = tmp_path / "state"
    run(dataclasses.replace(CONFIG, epochs=1), state_path=path)
    with pytest.raises(ValueError, match="but these differ: config .*Use the old ones, or start over"):
        run(state_path=path, resume=True)
    with pytest.raises(ValueError, match="but these differ: data "):
        run(dataclasses.replace(CONFIG, epochs=1), train=pairs(5), state_path=path, resume=True)
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="could not read it: .*; delete it to start over"):
        run(state_path=path, resume=True)


def test_the_epoch_of_the_highest_validation_srcc_is_kept():
    val = unrelated()
    config = dataclasses.replace(CONFIG, epochs=8, lr_schedule="constant")
    head, history = run(config, val=val)
    best = max(history["val_srcc"])
    assert history["val_srcc"][-1] < best and spearman(predict(head, val), val.scores) == best
    by_loss, history = run(config, val=val, select="regression")
    kept = (predict(by_loss, val) - val.scores).square().mean().item()
    assert kept == pytest.approx(min(history["val_regression"]), rel=1e-5)


def test_a_resumed_run_still_has_the_best_weights(tmp_path):
    config = dataclasses.replace(CONFIG, epochs=8, lr_schedule="constant")
    whole, history = run(config, val=unrelated(), state_path=tmp_path / "state")
    assert history["val_srcc"].index(max(history["val_srcc"])) < 7
    resumed, again = run(config, val=unrelated(), state_path=tmp_path / "state", resume=True)
    assert same(whole, resumed) and again == history


def test_it_stops_after_so_many_epochs_without_a_better_one():
    val = unrelated()
    config = dataclasses.replace(CONFIG, epochs=60, patience=2, lr_schedule="constant")
    _, history = run(config, val=val)
    srcc = history["val_srcc"]
    assert len(srcc) < 60 and srcc.index(max(srcc)) == len(srcc) - 3
    assert len(run(dataclasses.replace(config, patience=0, epochs=8), val=val)[1]["loss"]) == 8


def test_where_no_rank_changes_the_smaller_regression_loss_decides():
    # three constants: every epoch has the cosine's ranks, and the fit of the scale must not stop at once
    model = dataclasses.replace(CONFIG.model, adapter=False, modulation="none", entailment=None, lambda_rank=0.0)
    _, history = run(dataclasses.replace(CONFIG, model=model, patience=1))
    *falling, last = history["val_regression"]
    assert len(set(history["val_srcc"])) == 1 and len(falling) >= 2
    assert falling == sorted(falling, reverse=True) and last >= falling[-1]


def test_equal_seeds_are_equal_and_flags_come_back():
    first, second = run()[0], run()[0]
    assert same(first, second)
    assert not same(first, run(dataclasses.replace(CONFIG, seed=1))[0])
    assert all(p.requires_grad and p.grad is None for p in first.parameters()) and not first.training


def test_nothing_to_rank_is_refused():
    val = pairs(1, 10)
    val.scores = torch.full((10,), 0.5)
    with pytest.raises(ValueError, match="at least two different scores"):
        run(val=val)
