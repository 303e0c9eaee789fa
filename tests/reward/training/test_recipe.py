from pathlib import Path

import pytest

from reward.model.config import HyperAlignConfig
from reward.training.recipe import TrainingConfig, load_training_config, write_training_config

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted((ROOT / "configs").glob("hyperalign_*.yaml"))


def written(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_every_ablation_row_is_a_recipe():
    rows = {path.stem.removeprefix("hyperalign_"): load_training_config(path).model for path in RECIPES}
    said = {name: (m.adapter, m.modulation, m.entailment, m.contraction) for name, m in rows.items()}
    assert said == {
        "cosine_only": (False, "none", None, 0.8),
        "adapter": (True, "none", None, 0.8),
        "modulation_cosine": (True, "cosine", None, 0.8),
        "geometry": (True, "geometry", None, 0.8),
        "static_cone": (True, "geometry", "paper", 0.0),
        "entail_paper": (True, "geometry", "paper", 0.8),
        "entail_weighted": (True, "geometry", "weighted", 0.8),
        "entail_two_sided": (True, "geometry", "two_sided", 0.8),
    }
    # rows differ in nothing else, or a gap between two would have two causes
    fixed = [{k: v for k, v in m.to_dict().items() if k not in ("adapter", "modulation", "entailment", "contraction")}
             for m in rows.values()]  # fmt: skip
    assert all(values == fixed[0] for values in fixed)
    assert len({repr({**load_training_config(path).to_dict(), "model": None}) for path in RECIPES}) == 1


def test_yaml_round_trip(tmp_path):
    config = TrainingConfig(
        model=HyperAlignConfig(curvature=0.5, entailment=None, embed_dim=512), lr_head=3e-5, epochs=7, controls=False
    )
    write_training_config(config, tmp_path / "a.yaml")
    assert load_training_config(tmp_path / "a.yaml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
    assert load_training_config() == TrainingConfig()


def test_what_yaml_reads_otherwise_than_meant(tmp_path):
    path = written(tmp_path, "lr_head: 1e-4\nmixed_precision: no\nmodel:\n  lambda_ent: 5e-2\n")
    config = load_training_config(path)
    assert (config.lr_head, config.mixed_precision, config.model.lambda_ent) == (1e-4, "no", 0.05)


def test_overrides(tmp_path):
    path = written(tmp_path, "epochs: 3\nmodel:\n  backbone: ViT-B-16\n  pretrained: openai\n  min_radius: 0.2\n")
    config = load_training_config(path, {"model.curvature": 2.0, "epochs": 4, "model.backbone": "local-dir:x"})
    model = config.model
    assert (config.epochs, model.curvature, model.min_radius) == (4, 2.0, 0.2)
    assert (model.backbone, model.pretrained) == ("local-dir:x", None)
    with pytest.raises(ValueError, match="Unknown key 'data.root'; only fields of the model"):
        load_training_config(path, {"data.root": "x"})


@pytest.mark.parametrize(
    "text, message",
    [
        ("epoch: 3", "recipe.yaml: Unknown key 'epoch' in a training config; did you mean 'epochs'?"),
        ("curvature: 2", "it is a field of the model, put it under `model:`"),
        ("model:\n  modulaton: none", "model: Unknown key 'modulaton'.*did you mean 'modulation'?"),
        ("model:\n  embed_dim: 4", "Expected no embed_dim in model"),
        ("model: 3", "Expected model to be a mapping"),
        ("env:\n  A: b", "an `env:` block is not allowed"),
        ("- 1", "expected a mapping of field: value but got list"),
        ("a: [", "is not valid YAML"),
        ("epochs: 0", "Expected epochs to be at least 1 but got 0"),
        ("lr_head: 0.0", "Expected lr_head to be above 0 but got 0.0"),
        ("keep_epoch: last", "Expected patience 0 with keep_epoch 'last' but got 5"),
        ("val_share: 0.9", "Expected test_share \\+ val_share below 1"),
        ("mixed_precision: bf16", "Expected mixed_precision 'no' with a frozen backbone"),
        ("mixed_precision: int8", "Expected mixed_precision to be one of"),
        ("model:\n  curvature: -1.0", "model: Expected curvature to be positive"),
    ],
)
def test_refusals(tmp_path, text, message):
    with pytest.raises(ValueError if text != "model: 3" else TypeError, match=message):
        load_training_config(written(tmp_path, text))


def test_wrong_types_and_files(tmp_path):
    with pytest.raises(TypeError, match="Expected epochs to be int but got '3'"):
        load_training_config(written(tmp_path, "epochs: '3'"))
    with pytest.raises(TypeError, match="Expected fine_tune to be bool but got 1"):
        load_training_config(written(tmp_path, "fine_tune: 1"))
    with pytest.raises(FileNotFoundError, match="Expected a YAML training config at .*none.yaml"):
        load_training_config(tmp_path / "none.yaml")
