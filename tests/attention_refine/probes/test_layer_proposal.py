"""The rule that proposes layers."""

import pytest

from attention_refine.probes.layer_proposal import propose_layers


def test_fusion_layers_before_post_are_candidates_and_a_late_one_is_review():
    gains = [0, 0.3, 0.2, 0, 0, 0, 0.1, 0.0]
    found = propose_layers(gains, [g - 0.05 if g else -0.02 for g in gains], [0.1] * 8)
    assert (found.candidate_layers, found.post_layer, found.review_layer) == ((1, 2), 5, 6)
    assert found.config(mode="residual").check_depth(8) is None


def test_a_gain_within_its_noise_and_one_too_small_are_no_fusion():
    gains, low = [0.4, 0.3, 0.02, 0.3, 0, 0.1, 0, 0], [0.3, 0.2, 0.01, -0.01, -0.1, -0.01, 0, 0]
    assert propose_layers(gains, low, [0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4]).candidate_layers == (0, 1)


def test_without_a_late_gain_the_deep_layer_that_looks_most_is_review():
    found = propose_layers([0.5, 0.4] + [0] * 6, [0.4, 0.3] + [0] * 6, [0.9, 0.9, 0.9, 0.9, 0.1, 0.3, 0.2, 0.8])
    assert found.review_layer == 5 and found.post_layer == 4
    assert "no deep layer adds accuracy" in found.reasons[0]


def test_the_last_layer_is_never_review_and_candidates_are_never_empty():
    gains = [0, 0.01, 0, 0, 0, 0, 0.3, 0.5]
    found = propose_layers(gains, [g / 2 for g in gains], [0.1] * 8)
    assert (found.candidate_layers, found.post_layer, found.review_layer) == ((1,), 5, 6)
    found.config().check_depth(8)


@pytest.mark.parametrize("depth", [4, 5, 8, 28, 32])
def test_every_depth_gets_layers_that_the_config_takes(depth):
    for at in range(depth):
        gains = [0.5 if layer == at else 0.0 for layer in range(depth)]
        for mode in ("residual", "attention_bias"):
            propose_layers(gains, gains, [0.1] * depth).config(mode=mode).check_depth(depth)


def test_a_model_that_ignores_the_image_is_refused():
    with pytest.raises(ValueError, match="answers better with the image"):
        propose_layers([0.0] * 8, [-0.1] * 8, [0.1] * 8)
    with pytest.raises(ValueError, match="one length, got 8, 7"):
        propose_layers([0.1] * 8, [0.1] * 7, [0.1] * 8)
    with pytest.raises(ValueError, match="at least 4 layers"):
        propose_layers([0.1] * 3, [0.1] * 3, [0.1] * 3)
