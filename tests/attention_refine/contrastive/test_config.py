"""The config: what it refuses, its presets, its way to JSON and back."""

import json
import subprocess
import sys

import pytest

from attention_refine.contrastive.config import MODES, ContrastiveAttentionConfig


def test_the_defaults_are_the_published_layers():
    config = ContrastiveAttentionConfig()
    assert (config.post_layer, config.candidate_layers, config.review_layer) == (28, (2, 4, 8, 11, 12, 13), 29)
    assert (config.rho, config.lam) == (0.2, 0.1)
    config.check_depth(32)


@pytest.mark.parametrize("mode", MODES)
def test_a_preset_fits_its_depth(mode):
    for depth in range(4, 81):
        config = ContrastiveAttentionConfig.for_depth(depth, mode=mode)
        config.check_depth(depth)
        assert max(config.candidate_layers) < config.post_layer < config.review_layer < depth - 1


def test_the_preset_of_the_published_depth_is_the_default():
    assert ContrastiveAttentionConfig.for_depth(32) == ContrastiveAttentionConfig()
    assert ContrastiveAttentionConfig.for_depth(40, lam=0.5) == ContrastiveAttentionConfig(
        post_layer=35, candidate_layers=(2, 5, 10, 13, 15, 16), review_layer=36, lam=0.5
    )


def test_json_and_back():
    config = ContrastiveAttentionConfig.for_depth(8, mode="post_norm", rho=0.3, image_token_id=7)
    assert ContrastiveAttentionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"post_layer": 29}, ValueError, "post_layer below review_layer, got 29 and 29"),
        ({"post_layer": 30}, ValueError, "post_layer below review_layer, got 30 and 29"),
        ({"candidate_layers": (2, 28)}, ValueError, "every candidate layer below post_layer = 28"),
        ({"candidate_layers": ()}, ValueError, "one or more different layers"),
        ({"candidate_layers": (2, 2)}, ValueError, "one or more different layers"),
        ({"candidate_layers": (-1,)}, ValueError, "0 or more"),
        ({"candidate_layers": "12"}, TypeError, "layer indices"),
        ({"candidate_layers": 2}, TypeError, "layer indices"),
        ({"candidate_layers": (2.0,)}, TypeError, "integer"),
        ({"review_layer": True}, TypeError, "integer"),
        ({"rho": 1.0}, ValueError, r"rho in \[0, 1\)"),
        ({"rho": -0.1}, ValueError, r"rho in \[0, 1\)"),
        ({"lam": 1.1}, ValueError, r"lam in \[0, 1\]"),
        ({"lam": float("nan")}, ValueError, r"lam in \[0, 1\]"),
        ({"lam": "0.1"}, TypeError, "number"),
        ({"mode": "input"}, ValueError, "residual, post_norm, attention_bias"),
        ({"image_token_id": -200}, ValueError, "0 or more"),
    ],
)
def test_refused(changes, error, message):
    with pytest.raises(error, match=message):
        ContrastiveAttentionConfig(**changes)


def test_layers_that_the_model_lacks_are_refused():
    with pytest.raises(ValueError, match="below the model's 24 layers, got 29"):
        ContrastiveAttentionConfig().check_depth(24)


def test_the_last_layer_is_refused_in_residual_mode_only():
    for mode in ("post_norm", "attention_bias"):
        ContrastiveAttentionConfig(review_layer=31, mode=mode).check_depth(32)
    with pytest.raises(ValueError, match="below 31, the last layer, in residual mode"):
        ContrastiveAttentionConfig(review_layer=31).check_depth(32)


def test_an_unknown_field_and_a_shallow_model_are_refused():
    with pytest.raises(ValueError, match="got lambda"):
        ContrastiveAttentionConfig.from_dict({"lambda": 0.1})
    with pytest.raises(ValueError, match="at least 4 layers"):
        ContrastiveAttentionConfig.for_depth(3)


def test_the_package_imports_lightly():
    code = "import attention_refine.contrastive.config, sys; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
