import pytest

from benchmarks.agiqa3k.recipe import CHOICES, CONFIGS, RECIPE, ROWS, SWEEPS, row_config
from benchmarks.agiqa3k.run import PARTS

FULL = row_config(*ROWS["full"])


def changed(config, reference):
    """Fields in which two configs differ, those of the model with a dot."""

    def flat(config):
        values = config.to_dict()
        model = values.pop("model")
        return values | {f"model.{name}": value for name, value in model.items()}

    one, two = flat(config), flat(reference)
    return {name for name in one if one[name] != two[name]}


def test_every_recipe_of_the_ablation_is_a_row_and_the_full_model_the_last():
    files = {path.stem.removeprefix("hyperalign_") for path in CONFIGS.glob("hyperalign_*.yaml")}
    assert {file for file, _ in ROWS.values()} == files
    assert list(ROWS)[-1] == list(SWEEPS)[-1] == "full" and SWEEPS["full"] == ROWS["full"]


def test_choices_are_made_on_other_splits_than_those_of_the_table():
    assert not set(PARTS["choices"][1]) & set(PARTS["rows"][1])
    assert PARTS["rows"][1] == PARTS["sweeps"][1] == tuple(range(10))
    assert list(CHOICES)[-1] == "full" and CHOICES["full"] == ROWS["full"]


@pytest.mark.parametrize("row", ROWS)
def test_rows_differ_in_the_model_only(row):
    config = row_config(*ROWS[row])
    assert all(name.startswith("model.") for name in changed(config, FULL))
    assert config.to_dict()["epochs"] == RECIPE["epochs"] and config.model.adapter_hidden == FULL.model.adapter_hidden


@pytest.mark.parametrize("row", [row for row in SWEEPS if row != "full"])
def test_a_sweep_changes_what_its_name_says_and_nothing_else(row):
    fields = {
        "curvature": {"model.curvature"},
        "start radii": {"model.text_radius", "model.image_radius"},
        "k": {"model.min_radius"},
        "contraction": {"model.contraction"},
        "weight": {"model.lambda_ent"},
    }
    assert changed(row_config(*SWEEPS[row]), FULL) == next(v for k, v in fields.items() if row.startswith(k))
