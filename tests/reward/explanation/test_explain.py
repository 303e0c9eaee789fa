import math

import numpy as np
import pytest
import torch

from reward import HyperAlignReward
from reward.explanation.explain import explain, explain_phrases
from tinyworld import weights_path
from tinyworld.scenes import Kind, SceneObject, render


@pytest.fixture(scope="module")
def tiny():
    return HyperAlignReward.from_pretrained(weights_path("hyperalign"))


def scene(*objects):
    return render([SceneObject(Kind(*words.split()), x, y, 0.14) for words, x, y in objects])


RING_LEFT_OF_SQUARE = scene(("red ring", 0.25, 0.5), ("blue square", 0.75, 0.5))


def test_names_the_wrong_phrase_and_what_would_be_right(tiny):
    found = explain(tiny, RING_LEFT_OF_SQUARE, "a red ring left of a green square")
    assert found.worst_phrase == "a green square"
    assert "“blue” for “green”" in found.sentences[-1] and "not clearly" not in found.sentences[-1]
    assert "a green square" in str(found) and "green -> blue" in str(found)


def test_the_phrases_alone_are_those_of_the_explanation(tiny):
    prompt = "two red rings and a blue square"
    assert explain_phrases(tiny, RING_LEFT_OF_SQUARE, prompt) == explain(tiny, RING_LEFT_OF_SQUARE, prompt).phrases


def test_a_right_pair_is_not_called_wrong(tiny):
    found = explain(tiny, RING_LEFT_OF_SQUARE, "a red ring and a blue square")
    assert not found.phrases.clearly_wrong
    assert found.sentences[-1].startswith("Every phrase fits better")


def test_says_what_the_reward_says(reward, images, prompts):
    for image, prompt in zip(images, prompts, strict=True):
        found = explain(reward, image, prompt)
        expected = reward.explain(image, prompt)
        for name, value in expected._asdict().items():
            assert getattr(found.output, name).item() == pytest.approx(value.item(), abs=1e-5), name
        assert found.phrases.prompt_score == pytest.approx(expected.score.item(), abs=1e-5)
        phi, distance = found.plane.exterior_angle_and_distance()
        assert phi == pytest.approx(expected.exterior_angle.item(), abs=1e-4)
        assert distance == pytest.approx(expected.distance.item(), abs=1e-4)
        assert found.saliency.shape == image.shape[1:] == found.image.shape[:2]
        assert np.isfinite(found.saliency).all()


@pytest.mark.parametrize("curvature", [0.25, 4.0])
def test_the_plane_is_in_units_of_the_curvature(backbone_name, images, curvature):
    reward = HyperAlignReward.from_backbone(backbone_name, adapter_hidden=8, curvature=curvature)
    found = explain(reward, images[0], "a red circle")
    phi, distance = found.plane.exterior_angle_and_distance()
    assert phi == pytest.approx(found.output.exterior_angle.item(), abs=1e-4)
    assert distance == pytest.approx(found.output.distance.item() * math.sqrt(curvature), abs=1e-4)


def test_inside_and_outside(reward, images):
    sentences = {}
    for image in images:
        found = explain(reward, image, "a red circle")
        where = "inside" if found.output.margin > 0 else "outside"
        sentences[where] = found.sentences[1]
        degrees = abs(math.degrees(found.output.margin.item()))
        assert where in found.sentences[1] and f"{degrees:.0f}° " in found.sentences[1]
    assert "without the entailment loss" not in " ".join(sentences.values())


def test_a_head_without_entailment_says_so(tiny):
    assert "without the entailment loss" in explain(tiny, RING_LEFT_OF_SQUARE, "a red ring").sentences[1]


def test_an_untrained_head_leaves_the_cosine(untrained, images):
    found = explain(untrained, images[0], "a red circle")
    assert "left the cosine" in found.sentences[2]


@pytest.mark.parametrize("modulation", ["none", "cosine", "geometry"])
def test_what_the_modulation_did(backbone_name, images, modulation):
    reward = HyperAlignReward.from_backbone(backbone_name, adapter_hidden=8, modulation=modulation)
    with torch.no_grad():
        reward.head.modulation.bias += torch.tensor([0.5, 0.1, 0.2])
    found = explain(reward, images[0], "a red circle")
    slope = (found.output.alpha * found.output.gamma).item()
    assert f"{slope:.2f} x cosine" in found.sentences[2]
    assert ("every pair" in found.sentences[2]) == (modulation == "none")


def test_prompts_outside_the_tiny_vocabulary_are_explained_too(tiny):
    found = explain(tiny, RING_LEFT_OF_SQUARE, "A photo of 3 corgis riding a skateboard, with 100 % zest!")
    assert found.worst_phrase and all(math.isfinite(p.margin) for p in found.phrases.phrases if p.margin is not None)


def test_what_cannot_be_explained(reward, images):
    with pytest.raises(ValueError, match="Expected one image to explain but got 4"):
        explain(reward, images, "a red circle")
    with pytest.raises(TypeError, match="Expected one prompt, a string, to explain but got list"):
        explain(reward, images[0], ["a red circle"])
    with pytest.raises(ValueError, match="at least one word"):
        explain(reward, images[0], "  ")
