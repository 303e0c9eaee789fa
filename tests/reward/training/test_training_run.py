"""`reward.training.train.train`: from a data set to a model folder."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

import reward.training.fit_loop
import reward.training.train
from reward import HyperAlignConfig, HyperAlignReward
from reward.backbone.towers import Backbone
from reward.datasets import load_dataset, split_by_prompt
from reward.training.controls import load_controls
from reward.training.recipe import TrainingConfig, load_training_config
from reward.training.train import train


@pytest.fixture(scope="module")
def dataset(rated_table):
    return load_dataset("table", rated_table)


@pytest.fixture
def config(backbone_name):
    model = HyperAlignConfig(backbone=backbone_name, adapter_hidden=8)
    return TrainingConfig(
        model=model, epochs=3, batch_size=16, lr_head=1e-2, lr_adapter=1e-2, val_share=0.25, controls=False
    )


def head_weights(folder):
    return load_file(folder / "model.safetensors")


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_a_run_writes_a_model_and_what_it_was_made_of(dataset, config, tmp_path):
    config = dataclasses.replace(config, controls=True)
    found = train(config, dataset, tmp_path / "run", cache_dir=tmp_path / "cache", progress=False)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json", "model.safetensors", "backbone", "training.yaml", "split.json", "history.csv", "metrics.json",
        "controls",
    }  # fmt: skip
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == found
    assert set(found["controls"]) == {"text-blind", "additive"} and found["epochs"] <= 3
    about = json.loads((tmp_path / "run" / "split.json").read_text())
    split = split_by_prompt(dataset.prompts, seed=0, test_share=0.2, val_share=0.25)
    for name, rows in split._asdict().items():
        assert about["prompts"][name] == sorted({dataset.prompts[i] for i in rows})
    low, high = about["score_range"]
    assert low >= dataset.scores[split.train].min() - 1e-9 and high <= dataset.scores[split.train].max() + 1e-9

    model = HyperAlignReward.from_pretrained(tmp_path / "run")
    images, prompts = zip(*((dataset.images[i], dataset.prompts[i]) for i in split.test), strict=True)
    from reward.statistics.correlations import spearman

    scores = model(list(images), list(prompts)).double().numpy()
    assert spearman(scores, dataset.scores[split.test]) == pytest.approx(found["test"]["srcc"], abs=1e-6)
    assert set(load_controls(model.config, tmp_path / "run" / "controls")) == {"text-blind", "additive"}
    again = load_training_config(tmp_path / "run" / "training.yaml")
    assert again.to_dict() == dataclasses.replace(config, model=again.model).to_dict()
    with pytest.raises(FileExistsError, match="contains a model; choose another"):
        train(config, dataset, tmp_path / "run", progress=False)
    assert train(config, dataset, tmp_path / "run", resume=True, progress=False) == found


def test_training_and_stopping_never_see_the_test_part(dataset, config, tmp_path):
    split = split_by_prompt(dataset.prompts, seed=0, test_share=0.2, val_share=0.25)
    scores, images = dataset.scores.copy(), list(dataset.images)
    scores[split.test] = scores[split.test][::-1] + np.linspace(5, 900, len(split.test))
    for row in split.test:
        images[row] = dataset.images[split.train[0]]
    other = dataclasses.replace(dataset, scores=scores, images=tuple(images))
    one = train(config, dataset, tmp_path / "one", progress=False)
    two = train(config, other, tmp_path / "two", progress=False)
    assert equal(head_weights(tmp_path / "one"), head_weights(tmp_path / "two"))
    assert (tmp_path / "one" / "history.csv").read_text() == (tmp_path / "two" / "history.csv").read_text()
    assert one["val_srcc"] == two["val_srcc"] and one["test"] != two["test"]
    # the same change to the validation part does change what is kept
    scores = dataset.scores.copy()
    scores[split.val] = scores[split.val].max() - scores[split.val]
    train(config, dataclasses.replace(dataset, scores=scores), tmp_path / "three", progress=False)
    assert (tmp_path / "one" / "history.csv").read_text() != (tmp_path / "three" / "history.csv").read_text()


@pytest.mark.parametrize("fine_tune", [False, True], ids=["frozen", "fine-tuned"])
def test_interrupted_and_resumed_equals_uninterrupted(dataset, config, tmp_path, monkeypatch, fine_tune):
    config = dataclasses.replace(config, fine_tune=fine_tune, lr_backbone=1e-3, epochs=2, batch_size=24, patience=0)
    expected = train(config, dataset, tmp_path / "whole", progress=False)
    validate, calls = reward.training.fit_loop.validate, []

    def killed(*arguments):
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*arguments)

    monkeypatch.setattr(reward.training.fit_loop, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset, tmp_path / "cut", progress=False)
    monkeypatch.setattr(reward.training.fit_loop, "validate", validate)
    with pytest.raises(FileExistsError, match="contains an interrupted run; continue it"):
        train(config, dataset, tmp_path / "cut", progress=False)
    resumed = train(config, dataset, tmp_path / "cut", resume=True, progress=False)
    assert {**resumed, "seconds": 0} == {**expected, "seconds": 0}
    assert equal(head_weights(tmp_path / "whole"), head_weights(tmp_path / "cut"))
    if fine_tune:
        both = [load_file(tmp_path / n / "backbone" / "open_clip_model.safetensors") for n in ("whole", "cut")]
        assert equal(*both)


def test_a_run_killed_while_it_saved_its_model_goes_on(dataset, config, tmp_path, monkeypatch):
    expected = train(config, dataset, tmp_path / "whole", progress=False)
    write = reward.training.train.write_text

    def killed(path, text):
        if path.name == "metrics.json":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(reward.training.train, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset, tmp_path / "cut", progress=False)
    monkeypatch.undo()
    assert (tmp_path / "cut" / "config.json").exists()
    with pytest.raises(FileExistsError, match="contains a model"):
        train(config, dataset, tmp_path / "cut", progress=False)
    resumed = train(config, dataset, tmp_path / "cut", resume=True, progress=False)
    assert {**resumed, "seconds": 0} == {**expected, "seconds": 0}
    assert not (tmp_path / "cut" / "training_state.safetensors").exists()


def test_processes_that_do_not_find_each_other_are_refused(dataset, config, tmp_path, monkeypatch):
    train(dataclasses.replace(config, epochs=1), dataset, tmp_path / "alone", progress=False)
    # accelerate looks at the environment once a process, whichever test is the first
    PartialState()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="Expected the 2 processes that the launcher started but accelerate sees 1"):
        train(config, dataset, tmp_path / "two", progress=False)


def test_fine_tuning_trains_both_towers_and_validates_the_weights_it_has(dataset, config, tmp_path):
    config = dataclasses.replace(
        config, fine_tune=True, lr_backbone=1e-3, epochs=1, batch_size=24, mixed_precision="bf16"
    )
    found = train(config, dataset, tmp_path / "run", progress=False)
    before, after = Backbone(config.model.backbone), HyperAlignReward.from_pretrained(tmp_path / "run")
    new = after.backbone.model.state_dict()
    moved = {name for name, value in before.model.state_dict().items() if not torch.equal(value, new[name])}
    assert any(name.startswith("visual.") for name in moved) and "token_embedding.weight" in moved
    assert "logit_scale" not in moved
    # features of prompts cached before the last step would show here
    split = split_by_prompt(dataset.prompts, seed=0, test_share=0.2, val_share=0.25)
    from reward.statistics.correlations import spearman

    scores = after([dataset.images[i] for i in split.val], [dataset.prompts[i] for i in split.val]).double().numpy()
    assert spearman(scores, dataset.scores[split.val]) == pytest.approx(found["val_srcc"], abs=0.05)
