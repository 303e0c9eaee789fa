"""A name of a model leads to the right loader, and never to another model than it says."""

import warnings

import pytest
import torch

from reward import HyperAlignReward
from reward.backbone.fetching import MissingWeightsError
from reward.named_models import describe_models, load_model, open_clip_name
from tests.reward.backbone.test_fetching import cache, empty_cache  # noqa: F401


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ViT-B-16/openai", ("ViT-B-16", "openai")),
        ("ViT-B-32-quickgelu/metaclip_400m", ("ViT-B-32-quickgelu", "metaclip_400m")),
        ("hf-hub:timm/ViT-B-16-SigLIP", ("hf-hub:timm/ViT-B-16-SigLIP", None)),
        ("local-dir:towers/mine", ("local-dir:towers/mine", None)),
        ("somebody/hyperalign-b16", None),
        ("ViT-B-16", None),
        ("runs/mine", None),
        ("ViT-B-16/", None),
    ],
)
def test_which_names_are_open_clip_models(name, found):
    assert open_clip_name(name) == found


def test_a_folder_is_a_trained_model_and_a_backbone_its_cosine(reward, backbone_name, tmp_path):
    reward.save_pretrained(tmp_path / "mine")
    images, prompts = torch.rand(2, 3, 24, 24), ["a red circle", "a blue square"]
    assert torch.equal(load_model(tmp_path / "mine")(images, prompts), reward(images, prompts))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bare = load_model(backbone_name)
    backbone = bare.backbone
    cosine = torch.cosine_similarity(backbone.encode_images(images), backbone.encode_prompts(prompts))
    assert torch.allclose(bare(images, prompts), cosine, atol=1e-5)


def test_tinyworld_is_only_what_the_entry_says_it_is(reward, tmp_path, monkeypatch):
    reward.save_pretrained(tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tinyworld").mkdir()
    found = load_model("tinyworld", tiny_world=lambda: tmp_path / "shipped")
    assert isinstance(found, HyperAlignReward)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_model("./tinyworld", tiny_world=lambda: tmp_path / "shipped")


@pytest.mark.parametrize("name", ["ViT-B-16/openai", "somebody/hyperalign-b16"])
def test_a_model_that_is_nowhere_is_one_error(empty_cache, name):  # noqa: F811
    with pytest.raises(MissingWeightsError, match=f"Expected the weights of {name} .*--fetch {name}.*tinyworld"):
        load_model(name)


def test_the_list_says_what_is_cached(empty_cache):  # noqa: F811
    assert "ViT-B-16/openai" in (shown := describe_models()) and "(not cached: hyperalign models --fetch" in shown
    assert "ViT-L-14/openai" not in shown and "ViT-L-14/openai" in describe_models(everything=True)
    cache(empty_cache, "timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")
    assert "the default, CLIP's cosine (cached)" in describe_models()
