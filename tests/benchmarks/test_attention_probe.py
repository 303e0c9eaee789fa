"""What benchmarks/attention_probe measures with: masks, shares, the maps of a model."""

import numpy as np
import pytest
import torch

from attention_refine.contrastive.config import ContrastiveAttentionConfig
from attention_refine.contrastive.contrast import quantile_mask
from benchmarks.attention_probe.asked import make_questions
from benchmarks.attention_probe.grounding import ask_about_one_of_two, contrast, coverage, described, shares
from benchmarks.attention_probe.vision_memory import remember_pictures
from tests.attention_refine.conftest import build_llava
from tinyworld.scenes import Kind, SceneObject, render


def test_coverage_is_where_the_renderer_draws_the_object():
    item = SceneObject(Kind("red", "triangle"), 0.3, 0.6, 0.14)
    drawn = render([item], 48, background=0.9)
    share = (0.9 - drawn[..., 1]) / (0.9 - 0.10)  # of the object's colour in each pixel
    expected = share.reshape(8, 6, 8, 6).mean((1, 3)).ravel()
    np.testing.assert_allclose(coverage(item, 8), expected, atol=1e-5)
    assert 0.05 < coverage(item, 8).mean() < 0.08  # a disc of that radius has 6.2 %


def test_a_map_on_the_object_alone_has_all_its_share_there_and_a_flat_one_the_area():
    asked, other = np.zeros((3, 64)), np.zeros((3, 64))
    asked[:, :4], other[:, 10:12] = 1, 1
    on = np.where(asked > 0, 0.25, 0.0)
    flat = np.full((3, 64), 1 / 64)
    assert shares(on, asked).tolist() == [1, 1, 1]
    ia, post = described({"IA": on, "post layer": flat}, asked, other)
    assert ia["object"] == 100 and ia["other"] == 0 and ia["lift"] == pytest.approx(16)
    assert post["lift"] == pytest.approx(1) and post["other"] == pytest.approx(3.125)
    assert ia["over_post"] == ia["over_post_low"] == pytest.approx(93.75)


def test_contrast_takes_the_candidate_farthest_from_post():
    attention = np.zeros((1, 4, 2))
    attention[0] = [[0.5, 0.5], [0.9, 0.1], [0.45, 0.55], [0.2, 0.8]]
    config = ContrastiveAttentionConfig(post_layer=2, candidate_layers=(0, 1), review_layer=3)
    np.testing.assert_allclose(contrast(attention, config), [[0.5, 0.5]])
    attention[0, 1] = [0.5, 0.5]
    attention[0, 0] = [0.0, 1.0]
    np.testing.assert_allclose(contrast(attention, config), [[0.5, 0.5]])
    assert not quantile_mask(torch.tensor([[0.5, 0.5]]), torch.zeros(1, 2, dtype=torch.long), 0.5).any()


def test_questions_are_the_same_at_any_noise_and_have_right_answers(tmp_path):
    clean, kinds = make_questions(tmp_path / "clean", 14, seed=5)
    noisy, _ = make_questions(tmp_path / "noisy", 14, seed=5, noise=0.3)
    assert [(q.text, q.answers) for q in clean] == [(q.text, q.answers) for q in noisy]
    assert len(set(kinds)) == 7
    about, scenes = ask_about_one_of_two(tmp_path, 9, seed=5)
    for question, (asked, other) in zip(about, scenes, strict=True):
        assert asked.kind.colour != other.kind.colour and asked.kind.shape != other.kind.shape
        assert asked.kind.shape in question.text or asked.kind.colour in question.text
        assert other.kind.shape not in question.text and other.kind.colour not in question.text


def test_pictures_remembered_by_content_give_the_same_features():
    model = build_llava()
    pictures = [torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    with torch.no_grad():
        expected = [model.get_image_features(p).pooler_output for p in pictures]
        ran = []
        embeddings = next(m for n, m in model.model.vision_tower.named_modules() if n.endswith("embeddings"))
        embeddings.register_forward_hook(lambda *_: ran.append(1))
        remember_pictures(model)
        for _ in range(3):
            for p, features in zip(pictures, expected, strict=True):
                found = model.get_image_features(p.clone()).pooler_output
                assert all(torch.equal(a, b) for a, b in zip(found, features, strict=True))
    assert len(ran) == 2
