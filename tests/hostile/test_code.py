"""Nothing in a file is run: no pickle is opened, no remote code loaded, no environment variable set."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.fuzz.folders import Backbones
from benchmarks.fuzz.guard import guarded
from reward.backbone.towers import Backbone
from reward.model.saving import read_weights


@pytest.fixture
def backbone(tmp_path):
    """A sound backbone's folder, without the pickle that the fuzz target puts there."""
    Backbones(tmp_path)
    (tmp_path / "open_clip_pytorch_model.bin").unlink()
    return tmp_path


def change(folder, **text):
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"] |= text
    path.write_text(json.dumps(config))


def test_a_sound_backbone_loads(backbone):
    with guarded(backbone):
        assert Backbone(f"local-dir:{backbone}").embed_dim == 8


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pth", "weights.bin"])
def test_a_pickle_beside_safetensors_is_never_opened(backbone, evil_pickle, name):
    (backbone / name).write_bytes(evil_pickle)
    with guarded(backbone):  # open_clip's own name for safetensors comes first
        Backbone(f"local-dir:{backbone}")
    (backbone / "open_clip_model.safetensors").rename(backbone / "weights.safetensors")
    with guarded(backbone), pytest.raises(ValueError, match="a pickle; remove it"):
        Backbone(f"local-dir:{backbone}")


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "model.safetensors"])
def test_a_pickle_named_safetensors_is_not_unpickled(backbone, evil_pickle, name):
    (backbone / "open_clip_model.safetensors").unlink()
    (backbone / name).write_bytes(evil_pickle)
    with guarded(backbone), pytest.raises(ValueError, match="could not load it|could not read"):
        Backbone(f"local-dir:{backbone}")
    with guarded(backbone), pytest.raises((ValueError, FileNotFoundError)):
        read_weights(backbone)


@pytest.mark.parametrize("tokenizer", [".", "tokens"])
def test_a_tokenizer_with_code_of_its_own_is_refused(backbone, tokenizer):
    (backbone / "tokens").mkdir()
    code = f"import os\nos.environ['HOSTILE'] = 'run'\nopen({str(backbone / 'run')!r}, 'w')\nclass Evil: pass\n"
    for folder in (backbone, backbone / "tokens"):
        (folder / "evil.py").write_text(code)
    change(backbone, hf_tokenizer_name=tokenizer, tokenizer_kwargs={"trust_remote_code": True})
    with guarded(backbone), pytest.raises(ValueError, match="asks to run some"):
        Backbone(f"local-dir:{backbone}")
    change(backbone, tokenizer_kwargs={})
    config = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    (backbone / tokenizer / "tokenizer_config.json").write_text(json.dumps(config))
    with guarded(backbone), pytest.raises(ValueError, match="asks to run some"):
        Backbone(f"local-dir:{backbone}")
    assert not (backbone / "run").exists()


def test_a_configuration_cannot_ask_for_more_than_its_weights(backbone):
    for text in ({"layers": 10**9}, {"width": 10**6}, {"vocab_size": 10**9}):
        shutil.copyfile(backbone / "open_clip_config.json", backbone / "kept.json")
        change(backbone, **text)
        with guarded(backbone), pytest.raises(ValueError, match="Expected"):
            Backbone(f"local-dir:{backbone}")
        shutil.copyfile(backbone / "kept.json", backbone / "open_clip_config.json")


def test_a_head_cannot_ask_for_more_than_its_weights(tmp_path):
    from benchmarks.fuzz.folders import RewardHeads

    target = RewardHeads(tmp_path)
    for number in (b"800000000", b"9" * 30):
        with guarded(tmp_path), pytest.raises(ValueError, match="Expected"):
            target.run(b"\x00" + target.config.replace(b'"embed_dim": 8', b'"embed_dim": ' + number))


def test_a_damaged_lora_does_not_make_a_pickle_be_loaded(tmp_path, evil_pickle, tiny_pipeline):
    from rl.lora.adapter import WEIGHTS_NAME, add_lora, load_lora, save_lora

    add_lora(tiny_pipeline.unet, rank=2, alpha=2, targets=["to_q"], seed=0)
    save_lora(tiny_pipeline.unet, type(tiny_pipeline), tmp_path)
    (tmp_path / "pytorch_lora_weights.bin").write_bytes(evil_pickle)
    whole = (tmp_path / WEIGHTS_NAME).read_bytes()
    with guarded(tmp_path):
        load_lora(tiny_pipeline.unet, type(tiny_pipeline), tmp_path)
    for damaged in (evil_pickle, whole[: len(whole) // 2], b""):
        (tmp_path / WEIGHTS_NAME).write_bytes(damaged)
        with guarded(tmp_path), pytest.raises(ValueError, match="Expected a LoRA in"):
            load_lora(tiny_pipeline.unet, type(tiny_pipeline), tmp_path)


def test_a_header_that_the_layers_deny_is_refused(tmp_path):
    from benchmarks.fuzz.folders import Loras
    from rl.lora.reading import read_weights as read_lora_weights

    folder = Loras(tmp_path).run_folder
    path = folder / "pytorch_lora_weights.safetensors"
    tensors = load_file(path)
    for key, value in (("r", 10**9), ("r", True), ("lora_alpha", "2"), ("lora_alpha", 1e300), ("target_modules", "x")):
        adapter = {"unet.r": 2, "unet.lora_alpha": 2, "unet.target_modules": ["to_q"]} | {f"unet.{key}": value}
        save_file(tensors, path, metadata={"lora_adapter_metadata": json.dumps(adapter)})
        with pytest.raises(ValueError, match="Expected"):
            read_lora_weights(folder)
    save_file({"unet.x.lora_A.weight": torch.zeros(2, 2)}, path, metadata={"lora_adapter_metadata": "[1]"})
    with pytest.raises(ValueError, match="could not read"):
        read_lora_weights(folder)


def test_a_checkpoint_that_no_trainer_wrote_is_a_value_error(tmp_path, evil_pickle):
    from rl.runs.checkpoints import load_checkpoint

    save_file({"a": torch.zeros(1)}, tmp_path / "training_state.safetensors")
    for state in ("[]", "{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"):
        (tmp_path / "state.json").write_text(state)
        with guarded(tmp_path), pytest.raises(ValueError, match="Expected a"):
            load_checkpoint(tmp_path)
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "training_state.safetensors").write_bytes(evil_pickle)
    with guarded(tmp_path), pytest.raises(ValueError, match="Expected a checkpoint in"):
        load_checkpoint(tmp_path)
