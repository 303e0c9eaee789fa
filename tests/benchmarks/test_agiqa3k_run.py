import csv
import json

import numpy as np
import pytest
import torch

import benchmarks.agiqa3k.run as experiment
from benchmarks.agiqa3k.tables import rows_table
from reward.evaluation.protocols import RatedFeatures, ablation
from reward.training.recipe import load_training_config

DIM, SEEDS = 8, (3, 4)


@pytest.fixture(scope="module")
def data():
    """30 prompts with 4 pictures each; the score is how much of the prompt a picture's feature has."""
    generator = torch.Generator().manual_seed(0)
    prompts = [f"prompt {i}" for i in range(30) for _ in range(4)]
    share = torch.rand(len(prompts), generator=generator)[:, None]
    text = torch.randn(30, DIM, generator=generator).repeat_interleave(4, 0)
    image = share * text + (1 - share) * torch.randn(len(prompts), DIM, generator=generator)
    return RatedFeatures("made up", image, text, tuple(prompts), 5 * share[:, 0].double().numpy())


@pytest.fixture(scope="module")
def configs():
    small = {"epochs": 2, "patience": 0, "batch_size": 32, "model.adapter_hidden": 4}
    changes = {"cosine": {"model.modulation": "none", "model.adapter": False}, "middle": {"lr_head": 0.01}, "full": {}}
    return {row: load_training_config(None, small | change) for row, change in changes.items()}


@pytest.fixture(scope="module")
def finished(data, configs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return folder, experiment.run_splits(data, configs, SEEDS, folder, samples=20)


def test_split_by_split_is_what_the_protocol_gives_in_one_go(data, configs, finished):
    _, found = finished
    whole = ablation(data, configs, seeds=SEEDS, samples=20, progress=False)
    assert [row.name for row in found.rows] == [row.name for row in whole.rows]
    for row, expected in zip(found.rows, whole.rows, strict=True):
        assert row.splits == 2 and row.is_control == expected.is_control
        assert (row.means["srcc"], row.srcc_low, row.srcc_high) == pytest.approx(
            (expected.means["srcc"], expected.srcc_low, expected.srcc_high)
        )


def test_gaps_are_steps_of_the_ablation_and_those_of_the_full_model(finished):
    _, found = finished
    pairs = [(gap.row, gap.versus) for gap in found.gaps]
    assert pairs[0] == ("middle", "cosine")
    assert pairs[1:] == [("full", row.name) for row in found.rows if row.name != "full"]
    assert {"full: text-blind", "full: additive", "full: shuffled prompts", "ridge, additive + cosine"} <= {
        versus for _, versus in pairs
    }
    means = {row.name: row.means["srcc"] for row in found.rows}
    assert all(gap.srcc == pytest.approx(means[gap.row] - means[gap.versus]) for gap in found.gaps)


def test_a_finished_split_is_not_trained_again(data, configs, finished, monkeypatch):
    folder, found = finished
    monkeypatch.setattr(experiment, "ablation", None)
    again = experiment.run_splits(data, configs, SEEDS, folder, samples=20)
    assert again.rows == found.rows and again.gaps == found.gaps


def test_a_split_of_another_recipe_or_of_other_features_is_refused(data, configs, finished):
    folder, _ = finished
    other = configs | {"full": load_training_config(None, {"epochs": 3})}
    with pytest.raises(ValueError, match="split_3.json to be of this run's configs but it is of others; remove it"):
        experiment.run_splits(data, other, SEEDS, folder)
    image = data.image.clone()
    image[-1, -1] += 1e-3
    moved = RatedFeatures(data.name, image, data.text, data.prompts, data.scores)
    with pytest.raises(ValueError, match="of this run's data but"):
        experiment.run_splits(moved, configs, SEEDS, folder)
    scores = RatedFeatures(data.name, data.image, data.text, data.prompts, data.scores[::-1])
    assert len({experiment.fingerprint(d) for d in (data, moved, scores)}) == 3


def test_results_have_a_line_for_a_row_and_split_and_the_table_says_the_same(finished, tmp_path):
    _, found = finished
    experiment.write_results(found, tmp_path, "made_up")
    with (tmp_path / "made_up_results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * len(found.rows)
    summary = json.loads((tmp_path / "made_up_summary.json").read_text())
    for row in summary["rows"]:
        of_row = [float(line["srcc"]) for line in lines if line["row"] == row["name"]]
        assert row["srcc"] == pytest.approx(np.mean(of_row), abs=1e-4)
    table = rows_table(summary).splitlines()
    assert len(table) == 2 + len(found.rows)
    full = next(row for row in summary["rows"] if row["name"] == "full")
    assert any(line.startswith(f"| full | {full['srcc']:.3f} ± ") for line in table)


def test_sweeps_go_without_controls(data, configs, tmp_path):
    sweep = {row: configs[row] for row in ("cosine", "full")}
    found = experiment.run_splits(data, sweep, SEEDS[:1], tmp_path, samples=2, controls=False)
    assert [(row.name, row.is_control) for row in found.rows] == [("cosine", False), ("full", False)]
