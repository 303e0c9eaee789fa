import dataclasses
import json
import os
import shutil

import pytest
import torch

from reward import HyperAlignReward
from reward.model import saving


@pytest.fixture
def saved(reward, tmp_path):
    reward.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def same(a: HyperAlignReward, b: HyperAlignReward, images, prompts) -> bool:
    return torch.equal(a(images, prompts), b(images, prompts))


def test_a_saved_folder_moves_and_still_loads(reward, saved, tmp_path, images, prompts):
    shutil.move(saved, tmp_path / "elsewhere")
    loaded = HyperAlignReward.from_pretrained(tmp_path / "elsewhere")
    assert same(reward, loaded, images, prompts)
    assert loaded.config == dataclasses.replace(reward.config, backbone="local-dir:backbone")


def test_only_head_and_adapter_are_in_the_weights(reward, saved):
    weights = saving.read_weights(saved)
    assert set(weights) == set(reward.head.state_dict())
    assert sorted(p.name for p in saved.iterdir()) == ["backbone", "config.json", "model.safetensors"]
    assert not (saved / "config.json").read_text().count(str(saved.parent))  # no path of this machine


def test_saving_again_and_over_itself(saved, tmp_path, images, prompts):
    loaded = HyperAlignReward.from_pretrained(saved)
    loaded.save_pretrained(saved)
    loaded.save_pretrained(tmp_path / "second")
    loaded.save_pretrained(tmp_path / "second")
    for folder in (saved, tmp_path / "second"):
        assert same(loaded, HyperAlignReward.from_pretrained(folder), images, prompts)
        assert [p for p in folder.iterdir() if p.name.startswith(".")] == []


def test_without_a_copy_the_backbone_is_named_relatively(reward, open_clip_folder, tmp_path, images, prompts):
    shutil.copytree(open_clip_folder, tmp_path / "models" / "open-clip")
    source = HyperAlignReward.from_backbone(f"local-dir:{tmp_path / 'models' / 'open-clip'}", adapter_hidden=8)
    source.head.load_state_dict(reward.head.state_dict())
    source.save_pretrained(tmp_path / "models" / "hyperalign", copy_backbone=False)
    assert not (tmp_path / "models" / "hyperalign" / "backbone").exists()
    shutil.move(tmp_path / "models", tmp_path / "moved")
    loaded = HyperAlignReward.from_pretrained(tmp_path / "moved" / "hyperalign")
    assert loaded.config.backbone == "local-dir:../open-clip"
    assert same(reward, loaded, images, prompts)


def test_a_relative_path_is_resolved_against_the_folder_not_the_process(saved, tmp_path, monkeypatch, images, prompts):
    monkeypatch.chdir(tmp_path)
    first = HyperAlignReward.from_pretrained("model")
    monkeypatch.chdir("/")
    first.save_pretrained(tmp_path / "again")
    assert same(first, HyperAlignReward.from_pretrained(tmp_path / "again"), images, prompts)


def test_a_fine_tuned_backbone_is_saved(reward, tmp_path, images, prompts):
    before = reward(images, prompts)
    reward.backbone.unfreeze()
    with torch.no_grad():
        for parameter in reward.backbone.parameters():
            parameter.mul_(1.05)
    reward.backbone.freeze()
    assert not torch.allclose(reward(images, prompts), before)
    reward.save_pretrained(tmp_path / "tuned")
    assert same(reward, HyperAlignReward.from_pretrained(tmp_path / "tuned"), images, prompts)
    assert len(list((tmp_path / "tuned" / "backbone").glob("*.safetensors"))) == 1


def test_pickles_beside_a_local_backbone_are_not_copied(open_clip_folder, tmp_path):
    shutil.copytree(open_clip_folder, tmp_path / "open-clip")
    (tmp_path / "open-clip" / "optimizer.pt").write_bytes(b"x")
    HyperAlignReward.from_backbone(f"local-dir:{tmp_path / 'open-clip'}").save_pretrained(tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*.pt"))


def test_saving_into_the_backbones_own_folder_is_refused(open_clip_folder, tmp_path):
    shutil.copytree(open_clip_folder, tmp_path / "open-clip")
    reward = HyperAlignReward.from_backbone(f"local-dir:{tmp_path / 'open-clip'}")
    with pytest.raises(ValueError, match="Expected a folder outside the backbone's own"):
        reward.save_pretrained(tmp_path / "open-clip" / "model")


def test_an_interrupted_save_leaves_the_old_model(reward, saved, monkeypatch, images, prompts):
    expected = HyperAlignReward.from_pretrained(saved)(images, prompts)
    with torch.no_grad():
        reward.head.image_scale.add_(1)

    def full_disk(tensors, path, **_):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(saving, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        reward.save_pretrained(saved)
    monkeypatch.undo()
    assert torch.equal(HyperAlignReward.from_pretrained(saved)(images, prompts), expected)


def test_an_interrupted_backbone_copy_leaves_nothing_behind(reward, saved, monkeypatch):
    monkeypatch.setattr(saving.shutil, "copytree", lambda *a, **k: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        reward.save_pretrained(saved)
    assert (saved / "backbone" / "open_clip_config.json").exists()
    assert not list(saved.glob(".backbone*"))


def edit_config(folder, **change):
    values = json.loads((folder / "config.json").read_text())
    values |= change
    (folder / "config.json").write_text(json.dumps(values))


class TestRefusals:
    def test_unknown_key(self, saved):
        edit_config(saved, curvatur=1.0)
        with pytest.raises(ValueError, match=r"config.json: Unknown key 'curvatur'.*did you mean 'curvature'"):
            HyperAlignReward.from_pretrained(saved)

    def test_weights_that_do_not_fit(self, saved):
        edit_config(saved, adapter_hidden=9)
        with pytest.raises(ValueError, match="Expected the weights in .* to fit config.json beside it but they do not"):
            HyperAlignReward.from_pretrained(saved)

    def test_missing_and_superfluous_weights(self, saved):
        from safetensors.torch import load_file, save_file

        weights = load_file(saved / "model.safetensors")
        save_file(weights | {"extra": torch.zeros(1)}, saved / "model.safetensors")
        with pytest.raises(ValueError, match="Unexpected key.*extra"):
            HyperAlignReward.from_pretrained(saved)
        weights.pop("image_scale")
        save_file(weights, saved / "model.safetensors")
        with pytest.raises(ValueError, match="Missing key.*image_scale"):
            HyperAlignReward.from_pretrained(saved)

    def test_pickles_are_never_loaded(self, saved):
        (saved / "model.safetensors").unlink()
        torch.save({}, saved / "pytorch_model.bin")
        with pytest.raises(FileNotFoundError, match="pytorch_model.bin will not be loaded, because pickles"):
            HyperAlignReward.from_pretrained(saved)

    def test_a_damaged_file(self, saved):
        (saved / "model.safetensors").write_bytes(b"damaged")
        with pytest.raises(ValueError, match="Expected a safetensors file but could not read"):
            HyperAlignReward.from_pretrained(saved)

    def test_no_config(self, saved):
        (saved / "config.json").unlink()
        with pytest.raises(FileNotFoundError, match="Expected a HyperAlign model with config.json"):
            HyperAlignReward.from_pretrained(saved)

    def test_no_folder(self, tmp_path):
        for path in (tmp_path / "gone", "./gone", "gone", "a/b/c"):
            with pytest.raises(FileNotFoundError, match="Expected a HyperAlign folder or a hub id ORG/NAME"):
                HyperAlignReward.from_pretrained(path)

    def test_another_backbone(self, saved, build_backbone, tmp_path):
        edit_config(saved, embed_dim=8)
        with pytest.raises(ValueError, match="do not: Error"):
            HyperAlignReward.from_pretrained(saved)

    def test_a_file_as_folder(self, reward, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match="Expected a folder to save to but .* is a file"):
            reward.save_pretrained(tmp_path / "file")


class TestHub:
    @pytest.fixture
    def hub(self, saved, monkeypatch):
        """snapshot_download that serves the saved folder, honouring the patterns."""
        import huggingface_hub
        from huggingface_hub.utils import filter_repo_objects

        asked = {}

        def snapshot_download(repo_id, allow_patterns, ignore_patterns, **options):
            asked.update(repo_id=repo_id, **options)
            target = saved.parent / "snapshot"
            files = [os.path.relpath(p, saved) for p in saved.rglob("*") if p.is_file()]
            for name in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(saved / name, target / name)
            return str(target)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return asked

    def test_loading(self, hub, reward, saved, images, prompts):
        (saved / "pytorch_model.bin").write_bytes(b"x")
        loaded = HyperAlignReward.from_pretrained("org/model", revision="main")
        assert hub == {"repo_id": "org/model", "revision": "main"}
        assert same(reward, loaded, images, prompts)
        assert not list((saved.parent / "snapshot").rglob("*.bin"))

    @pytest.mark.parametrize("name", ["local-dir:../../secrets", "local-dir:/etc", "local-dir:backbone/../.."])
    def test_a_hub_model_cannot_point_outside_itself(self, hub, saved, name):
        edit_config(saved, backbone=name)
        with pytest.raises(ValueError, match="Expected a backbone inside the downloaded model"):
            HyperAlignReward.from_pretrained("org/model")

    def test_push_to_hub(self, reward, monkeypatch, images, prompts, tmp_path):
        import huggingface_hub

        calls = []

        class Api:
            def __init__(self, token=None):
                calls.append(("token", token))

            def create_repo(self, repo_id, private=None, exist_ok=False):
                calls.append(("create", repo_id, private, exist_ok))
                return type("Url", (), {"repo_id": f"me/{repo_id}"})

            def upload_folder(self, repo_id, folder_path, revision, commit_message):
                calls.append(("upload", repo_id, revision, commit_message))
                shutil.copytree(folder_path, tmp_path / "uploaded")
                return type("Commit", (), {"commit_url": "https://hub/commit"})

        monkeypatch.setattr(huggingface_hub, "HfApi", Api)
        assert reward.push_to_hub("model", private=True, token="t", commit_message="Better") == "https://hub/commit"
        assert calls == [("token", "t"), ("create", "model", True, True), ("upload", "me/model", None, "Better")]
        assert same(reward, HyperAlignReward.from_pretrained(tmp_path / "uploaded"), images, prompts)
        card = (tmp_path / "uploaded" / "README.md").read_text()
        assert 'HyperAlignReward.from_pretrained("me/model")' in card and "library_name: hyperalign" in card
        assert "local-dir:backbone" in card and reward.config.backbone not in card  # no path of this machine
