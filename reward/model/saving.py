"""Read and write a HyperAlign folder: config.json, model.safetensors and, for a local backbone, backbone/."""

import dataclasses
import json
import os
import shutil
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reward.backbone.loading import LOCAL_PREFIX, local_folder
from reward.backbone.towers import Backbone
from reward.files.quoting import quoted
from reward.files.writing import naming, scratch_beside, write_text, write_whole
from reward.model.config import HyperAlignConfig
from reward.model.head import HyperAlign

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
BACKBONE_NAME = "backbone"
# the files of a saved folder; nothing else is downloaded from a hub
HUB_PATTERNS = [CONFIG_NAME, WEIGHTS_NAME, f"{BACKBONE_NAME}/*"]
PICKLES = ["*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt"]


def fetch(path_or_hub_id: str | os.PathLike, **hub_options) -> tuple[Path, bool]:
    """Find a model's folder: a local folder as it is, or a downloaded snapshot of a hub repository.

    Returns:
        the folder, and whether it was downloaded.

    Raises:
        FileNotFoundError: the argument looks like a path, and no such folder exists.
    """
    folder = Path(path_or_hub_id)
    if folder.is_dir():
        return folder, False
    text = os.fspath(path_or_hub_id)
    if folder.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1:
        raise FileNotFoundError(
            f"Expected a HyperAlign folder or a hub id ORG/NAME but {quoted(text)} is neither (no such folder)"
        )
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(text, allow_patterns=HUB_PATTERNS, ignore_patterns=PICKLES, **hub_options)), True


def read_config(folder: Path) -> HyperAlignConfig:
    """Read config.json of a HyperAlign folder.

    Raises:
        FileNotFoundError: there is no config.json.
        TypeError, ValueError: as `HyperAlignConfig.from_json`; the message names the file.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"Expected a HyperAlign model with {CONFIG_NAME} but there is none at {path}")
    try:
        return HyperAlignConfig.from_json(path.read_text(encoding="utf-8"))
    except (TypeError, ValueError) as error:
        # not type(error), because UnicodeDecodeError takes other arguments
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{path}: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read model.safetensors of a HyperAlign folder. A pickle is never loaded.

    Raises:
        FileNotFoundError: there is no model.safetensors.
        ValueError: the file is damaged.
    """
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
        found = f"; {', '.join(pickles)} will not be loaded, because pickles can run code" if pickles else ""
        raise FileNotFoundError(f"Expected weights at {path} but there are none{found}")
    try:
        return load_file(path)
    # the others are raised for a data type that torch does not have
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"Expected a safetensors file but could not read {path}: {error}; fetch it again") from error


def load_head(config: HyperAlignConfig, folder: Path) -> HyperAlign:
    """Build the head that `config` describes and load the weights of `folder` into it.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: the file is damaged, or the weights do not fit.
    """
    weights = read_weights(folder)
    try:
        # First without memory: a config may name any width. Memory is only allocated if the file's weights fit.
        with torch.device("meta"):
            hollow = HyperAlign(config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that loading into a meta module does nothing
            load_strict(hollow, weights, folder)
        head = HyperAlign(config)
    # torch raises these for huge sizes, and math for radii at the limit of their range
    except (ArithmeticError, RuntimeError, TypeError) as error:
        raise ValueError(f"Expected a model that can be built in {folder / CONFIG_NAME} but got {error}") from error
    load_strict(head, weights, folder)
    return head


def load_strict(module: torch.nn.Module, weights: dict[str, Tensor], source: Path):
    """load_state_dict(strict=True), with an error message that names the folder `source`.

    Raises:
        ValueError: the weights do not fit the module.
    """
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"Expected the weights in {source / WEIGHTS_NAME} to fit {CONFIG_NAME} beside it but they do not: {error}"
        ) from error


def refuse_outside(name: str, folder: Path):
    """Raise ValueError if the config of a downloaded model names a local backbone outside `folder`."""
    inside = local_folder(name)
    if inside is None:
        return
    target = os.path.normpath(folder / inside)
    if inside.is_absolute() or os.path.commonpath([target, os.path.normpath(folder)]) != os.path.normpath(folder):
        raise ValueError(
            f"Expected a backbone inside the downloaded model but its config names {quoted(name)}; if you trust the "
            "model, download it and load it from the local folder"
        )


def write_model(
    folder: str | os.PathLike,
    config: HyperAlignConfig,
    weights: dict[str, Tensor],
    backbone: Backbone,
    copy_backbone: bool = True,
):
    """Write a HyperAlign folder. Each file is written whole or not at all; config.json is written last.

    Args:
        folder: created if it does not exist.
        config: the model's configuration.
        weights: state dict of the head.
        backbone: copied into backbone/ if it is local or fine-tuned.
        copy_backbone: False saves the relative path of a local backbone instead of a copy.

    Raises:
        ValueError: `folder` lies inside the backbone's own folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = local_folder(backbone.name)
    if backbone.fine_tuned:
        _replace_folder(folder / BACKBONE_NAME, lambda target: _write_backbone(backbone, target))
        config = dataclasses.replace(config, backbone=LOCAL_PREFIX + BACKBONE_NAME, pretrained=None)
    elif source is not None and copy_backbone:
        target = folder / BACKBONE_NAME
        if target.resolve() != source.resolve():
            if target.resolve().is_relative_to(source.resolve()):
                raise ValueError(f"Expected a folder outside the backbone's own {source} but got {folder}")
            _replace_folder(target, lambda copy: _copy_backbone(source, copy))
        config = dataclasses.replace(config, backbone=LOCAL_PREFIX + BACKBONE_NAME)
    elif source is not None:
        relative = os.path.relpath(source.resolve(), folder.resolve())
        config = dataclasses.replace(config, backbone=LOCAL_PREFIX + Path(relative).as_posix())
    _write_weights(weights, folder / WEIGHTS_NAME)
    write_text(folder / CONFIG_NAME, config.to_json())


def _write_weights(weights: dict[str, Tensor], path: Path):
    plain = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    write_whole(path, lambda temporary: save_file(plain, temporary, metadata={"format": "pt"}))


def _replace_folder(target: Path, fill):
    """Let `fill` write a temporary folder beside `target`, then move it to `target`."""
    temporary = scratch_beside(target)
    with naming(target):
        temporary.mkdir()
        try:
            fill(temporary)
            if target.exists():
                old = temporary.with_name(temporary.name + ".old")
                os.replace(target, old)
                os.replace(temporary, target)
                shutil.rmtree(old)
            else:
                os.replace(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _copy_backbone(source: Path, target: Path):
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*PICKLES, ".*", "__pycache__"))


def _write_backbone(backbone: Backbone, target: Path):
    """Write a fine-tuned backbone in open_clip's local-dir layout."""
    source = local_folder(backbone.name)
    if source is not None:
        _copy_backbone(source, target)
        for weights in target.glob("*.safetensors"):
            weights.unlink()
    elif (tokenizer := getattr(backbone.tokenizer.open_clip_tokenizer, "tokenizer", None)) is not None:
        tokenizer.save_pretrained(target)
    config = {"model_cfg": backbone.model_config, "preprocess_cfg": backbone.preprocess_config}
    write_text(target / "open_clip_config.json", json.dumps(config, indent=2) + "\n")
    # clones, because safetensors refuses tensors that share memory (tied weights)
    state = {k: v.detach().clone() for k, v in backbone.model.state_dict().items()}
    _write_weights(state, target / "open_clip_model.safetensors")
