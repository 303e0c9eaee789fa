"""Recipes through `hyperalign evaluate`: which protocol runs, and what its metrics.json says."""

import json

import pytest

from reward.cli.main import main

RECIPE = "epochs: 1\nval_share: 0.25\nmodel:\n  adapter_hidden: 8\n  backbone: {backbone}\n"


@pytest.fixture
def evaluate(rated_table, backbone_name, tmp_path):
    for name in ("hyperalign_one.yaml", "hyperalign_two.yaml"):
        (tmp_path / name).write_text(RECIPE.format(backbone=backbone_name))

    def run(recipes, *more):
        output = tmp_path / "report"
        words = ["evaluate", "--dataset", "table", "--data", rated_table, "--output", output, "--seeds", 2, "--quiet"]
        words += [
            "--cache",
            tmp_path / "cache",
            "--config",
            *(tmp_path / f"hyperalign_{name}.yaml" for name in recipes),
        ]
        assert main([str(word) for word in [*words, *more]]) == 0
        return json.loads((output / "metrics.json").read_text())

    return run


def test_one_recipe_is_tested_within_its_data(evaluate, capsys):
    metrics = evaluate(["one"])
    assert metrics["protocol"] == "single-database" and metrics["row"] == "one" and metrics["splits"] == 2
    assert "one: text-blind" in metrics["others"] and -1 <= metrics["srcc"] <= 1
    assert "single-database: table" in capsys.readouterr().out


def test_several_recipes_are_an_ablation(evaluate):
    metrics = evaluate(["one", "two"])
    assert metrics["protocol"] == "ablation" and metrics["row"] == "two"
    assert {"row": "two", "versus": "one"}.items() <= metrics["gaps"][0].items()


def test_another_data_set_makes_it_cross_database(evaluate, rated_table, tmp_path):
    other = tmp_path / "other.csv"
    lines = rated_table.read_text().replace("circle", "ring").splitlines()
    other.write_text("\n".join([lines[0], *(f"{rated_table.parent}/{line}" for line in lines[1:])]))
    metrics = evaluate(["one"], "--test-dataset", "table", "--test-data", other)
    assert metrics["protocol"] == "cross-database"
    # only the prompts with rings are not trained on
    assert metrics["pairs"] == 2 * 24


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "a.yaml", "--test-data", "x"], "together"),
        (["--config", "a.yaml", "--seeds", "0"], "--seeds of at least 1"),
        (["--config", "none.yaml"], "Expected a YAML training config at none.yaml"),
    ],
)
def test_wrong_input_is_a_message(words, message, tmp_path, capsys):
    assert (
        main(["evaluate", "--dataset", "table", "--data", str(tmp_path), "--output", str(tmp_path / "o"), *words]) == 2
    )
    assert message in capsys.readouterr().err
