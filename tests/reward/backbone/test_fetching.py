"""Weights that are not there: one error, with both ways out; and what counts as cached."""

import logging

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from reward.backbone.fetching import MissingWeightsError, cached_files, cached_tags, reachable
from reward.backbone.loading import load_open_clip


def cache(folder, repository, *files):
    snapshot = folder / f"models--{repository.replace('/', '--')}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name in files:
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(b"x")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache with nothing in it, and no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", [("ViT-B-16", "openai"), ("hf-hub:some/model", None)])
def test_weights_that_are_nowhere_are_one_error_that_names_both_ways_out(empty_cache, name, caplog):
    with pytest.raises(MissingWeightsError) as raised:
        load_open_clip(*name)
    shown = "/".join(part for part in name if part)
    assert f"Expected the weights of {shown} in the cache" in str(raised.value)
    assert f"hyperalign models --fetch {shown}" in str(raised.value) and "`tinyworld`" in str(raised.value)
    assert "HF_HUB_OFFLINE=1 forbids it" in str(raised.value)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="out of memory"), reachable("m"):
        raise RuntimeError("out of memory")
    with pytest.raises(FileNotFoundError, match="no such file"), reachable("m"):
        raise FileNotFoundError("no such file")
    with pytest.raises(MissingWeightsError), reachable("m"):
        raise LocalEntryNotFoundError("nothing")


def test_the_cache_tells_which_models_have_their_weights(empty_cache):
    assert cached_tags() == []
    cache(empty_cache, "timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")
    cache(empty_cache, "timm/vit_base_patch32_clip_224.openai", "open_clip_config.json")
    assert "ViT-B-16/openai" in cached_tags() and "ViT-B-32/openai" not in cached_tags()
    assert cached_files()["timm/vit_base_patch32_clip_224.openai"] == {"open_clip_config.json"}
