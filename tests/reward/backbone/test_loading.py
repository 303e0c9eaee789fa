import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from reward.backbone.loading import load_open_clip, local_folder, needs_quick_gelu, resolve_backbone


def test_resolve_backbone(tmp_path):
    assert resolve_backbone("ViT-B-16", tmp_path) == "ViT-B-16"
    assert resolve_backbone("hf-hub:a/b", tmp_path) == "hf-hub:a/b"
    assert resolve_backbone("local-dir:../x", tmp_path / "y") == f"local-dir:{tmp_path / 'x'}"
    assert resolve_backbone(f"local-dir:{tmp_path}", Path("/")) == f"local-dir:{tmp_path}"
    assert local_folder("local-dir:x") == Path("x") and local_folder("ViT-B-16") is None


def test_quick_gelu_follows_the_weights():
    assert needs_quick_gelu("ViT-B-16", "openai") is True
    assert needs_quick_gelu("ViT-B-16-quickgelu", "openai") is False
    assert needs_quick_gelu("ViT-B-32", "laion2b_s34b_b79k") is False
    with pytest.raises(ValueError, match="'ViT-B-32-quickgelu' uses QuickGELU but .* use 'ViT-B-32'"):
        # a tag without QuickGELU, as if it were listed for the quickgelu architecture
        import open_clip.pretrained as pretrained

        tags = pretrained._PRETRAINED["ViT-B-32-quickgelu"]
        tags["plain"] = pretrained._PRETRAINED["ViT-B-32"]["laion2b_s34b_b79k"]
        try:
            needs_quick_gelu("ViT-B-32-quickgelu", "plain")
        finally:
            del tags["plain"]


@pytest.fixture
def tiny_architecture(open_clip_folder, tmp_path, monkeypatch):
    """The tiny model under a plain name in open_clip's registry."""
    import open_clip

    config = json.loads((open_clip_folder / "open_clip_config.json").read_text())["model_cfg"]
    del config["text_cfg"]["hf_tokenizer_name"]
    config["text_cfg"]["vocab_size"] = 49408
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", config)
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = open_clip.model.CLIP(**config).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def activations(model) -> set[str]:
    return {type(m).__name__ for m in model.modules() if "GELU" in type(m).__name__}


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_a_tag_brings_its_activation(tiny_architecture, monkeypatch, quick_gelu, recwarn):
    import open_clip.pretrained as pretrained

    tag = {"quick_gelu": quick_gelu, "mean": (0.1, 0.2, 0.3)}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-test", {"tag": tag})
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *a, **k: str(tiny_architecture))
    loaded = load_open_clip("tiny-test", "tag")
    assert activations(loaded.model) == ({"QuickGELU"} if quick_gelu else {"GELU"})
    assert loaded.model_config.get("quick_gelu", False) is quick_gelu
    assert loaded.preprocess_config["mean"] == (0.1, 0.2, 0.3)
    assert not [w for w in recwarn if "QuickGELU mismatch" in str(w.message)]


def test_a_name_with_a_weights_file(tiny_architecture):
    loaded = load_open_clip("tiny-test", str(tiny_architecture))
    assert loaded.model_config["embed_dim"] == 16 and loaded.tokenizer(["a"]).shape == (1, 10)


def test_hub_names_go_through_open_clips_schema(open_clip_folder, monkeypatch):
    """The hub is a stub that serves the local folder's files."""
    import open_clip.factory

    def download(model_id, filename=None, cache_dir=None, **_):
        assert model_id == "org/model"
        return str(open_clip_folder / (filename or "open_clip_model.safetensors"))

    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", download)
    monkeypatch.setattr(open_clip.factory, "get_tokenizer", lambda name: "tokenizer")
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: f"tokenizer of {name}")
    loaded = load_open_clip("hf-hub:org/model", None)
    assert loaded.model_config["embed_dim"] == 16 and loaded.tokenizer == "tokenizer of hf-hub:org/model"


@pytest.mark.parametrize("tokenizer_name", ["tokenizer", "."])
def test_a_local_folder(build_backbone, tmp_path, tokenizer_name):
    folder = build_backbone(tmp_path / "model", resize_mode="squash", tokenizer_name=tokenizer_name)
    loaded = load_open_clip(f"local-dir:{folder}", None)
    assert loaded.preprocess_config["resize_mode"] == "squash" and loaded.preprocess_config["size"] == (24, 24)
    assert loaded.tokenizer(["a red circle"]).max() == loaded.model.vocab_size - 1


def test_a_text_tower_inside_the_folder_is_found_there(open_clip_folder, tmp_path, monkeypatch):
    import open_clip
    from safetensors.torch import save_file
    from transformers import RobertaConfig

    folder = tmp_path / "model"
    shutil.copytree(open_clip_folder, folder)
    RobertaConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    ).save_pretrained(folder / "text")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] = {
        "hf_model_name": "text", "hf_tokenizer_name": "tokenizer", "hf_pooler_type": "mean_pooler", "context_length": 10
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    absolute = json.loads(json.dumps(config["model_cfg"]))
    absolute["text_cfg"] |= {"hf_model_name": str(folder / "text"), "hf_model_pretrained": False}
    state = open_clip.model.CustomTextCLIP(**absolute).state_dict()
    save_file({k: v.clone().contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors")
    monkeypatch.chdir(tmp_path)  # the tower is not looked for here
    loaded = load_open_clip(f"local-dir:{folder}", None)
    assert loaded.model.encode_text(loaded.tokenizer(["a red circle"])).shape == (1, 16)


def change_config(folder: Path, change):
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_bad_names_and_folders(open_clip_folder, tmp_path):
    with pytest.raises(ValueError, match="Unknown backbone 'ViT-Z'; expected an open_clip model"):
        load_open_clip("ViT-Z", "openai")
    with pytest.raises(ValueError, match="Unknown pretrained tag 'opnai' for backbone 'ViT-B-16'; expected one of"):
        load_open_clip("ViT-B-16", "opnai")
    with pytest.raises(ValueError, match="Expected pretrained weights for backbone 'ViT-B-16' but got pretrained=None"):
        load_open_clip("ViT-B-16", None)
    with pytest.raises(ValueError, match="Expected a backbone folder with open_clip_config.json but there is none"):
        load_open_clip(f"local-dir:{tmp_path}", None)

    pickled = tmp_path / "pickled"
    shutil.copytree(open_clip_folder, pickled)
    (pickled / "open_clip_model.safetensors").unlink()
    torch.save({}, pickled / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match="Expected weights as safetensors in .*; pickled weights are not loaded"):
        load_open_clip(f"local-dir:{pickled}", None)

    bare = tmp_path / "bare"
    shutil.copytree(open_clip_folder, bare)
    change_config(bare, lambda c: c.pop("model_cfg"))
    with pytest.raises(ValueError, match="Expected the key 'model_cfg' in"):
        load_open_clip(f"local-dir:{bare}", None)


def test_weights_of_another_model_are_refused(build_backbone, open_clip_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(open_clip_folder, folder)
    change_config(folder, lambda c: c["model_cfg"]["vision_cfg"].update(layers=1))
    with pytest.raises(ValueError, match="Unexpected key"):
        load_open_clip(f"local-dir:{folder}", None)


def test_loading_says_nothing_of_random_weights(open_clip_folder, caplog):
    load_open_clip(f"local-dir:{open_clip_folder}", None)
    assert not [record for record in caplog.records if "randomly" in record.getMessage()]
    logging.warning("No pretrained weights loaded, says another")
    assert "says another" in caplog.text
