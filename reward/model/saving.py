"""A HyperAlign folder on disk: config.json, model.safetensors and, for a local backbone, backbone/."""

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
# what a saved folder consists of; nothing else is fetched from a hub
HUB_PATTERNS = [CONFIG_NAME, WEIGHTS_NAME, f"{BACKBONE_NAME}/*"]
PICKLES = ["*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt"]


def fetch(path_or_hub_id: str | os.PathLike, **hub_options) -> tuple[Path, bool]:
    """A local folder as it is, or a hub repository's snapshot; and whether it came from the hub.

    Raises:
        FileNotFoundError: something that looks like a path and does not exist.
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
    """config.json of a HyperAlign folder, strictly."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"Expected a HyperAlign model with {CONFIG_NAME} but there is none at {path}")
    try:
        return HyperAlignConfig.from_json(path.read_text(encoding="utf-8"))
    except (TypeError, ValueError) as error:
        # not type(error): UnicodeDecodeError takes other arguments
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{path}: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """model.safetensors of a HyperAlign folder; never a pickle."""
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
        found = f"; {', '.join(pickles)} will not be loaded, pickles can run code" if pickles else ""
        raise FileNotFoundError(f"Expected weights at {path} but there are none{found}")
    try:
        return load_file(path)
    # others than SafetensorError: a data type that torch does not have
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"Expected a safetensors file but could not read {path}: {error}; fetch it again") from error


def load_head(config: HyperAlignConfig, folder: Path) -> HyperAlign:
    """The head that config.json describes with the weights beside it.

    Raises:
        ValueError: a damaged file, or weights that do not fit.
    """
    weights = read_weights(folder)
    try:
        # without memory first: a config may ask for any width, the file's own size is the most that is taken
        with torch.device("meta"):
            hollow = HyperAlign(config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that nothing is copied into it
            load_strict(hollow, weights, folder)
        head = HyperAlign(config)
    # torch's words for sizes beyond all bounds, math's for radii at the edge of what they may be
    except (ArithmeticError, RuntimeError, TypeError) as error:
        raise ValueError(f"Expected a model that can be built in {folder / CONFIG_NAME} but got {error}") from error
    load_strict(head, weights, folder)
    return head


def load_strict(module: torch.nn.Module, weights: dict[str, Tensor], source: Path):
    """load_state_dict(strict=True) with a message that names the file."""
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"Expected the weights in {source / WEIGHTS_NAME} to fit {CONFIG_NAME} beside it but they do not: {error}"
        ) from error


def refuse_outside(name: str, folder: Path):
    """A model from a hub must not name a backbone elsewhere on this machine."""
    inside = local_folder(name)
    if inside is None:
        return
    target = os.path.normpath(folder / inside)
    if inside.is_absolute() or os.path.commonpath([target, os.path.normpath(folder)]) != os.path.normpath(folder):
        raise ValueError(
            f"Expected a backbone inside the downloaded model but its config names {quoted(name)}; if you trust it, "
            "download it and load it from the local folder"
        )


def write_model(
    folder: str | os.PathLike,
    config: HyperAlignConfig,
    weights: dict[str, Tensor],
    backbone: Backbone,
    copy_backbone: bool = True,
):
    """Write a HyperAlign folder; each file whole or not at all, config.json last."""
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
    """Fill a temporary folder beside `target`, then swap it in."""
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
    """A fine-tuned backbone in open_clip's local-dir layout."""
    source = local_folder(backbone.name)
    if source is not None:
        _copy_backbone(source, target)
        for weights in target.glob("*.safetensors"):
            weights.unlink()
    elif (tokenizer := getattr(backbone.tokenizer.open_clip_tokenizer, "tokenizer", None)) is not None:
        tokenizer.save_pretrained(target)
    config = {"model_cfg": backbone.model_config, "preprocess_cfg": backbone.preprocess_config}
    write_text(target / "open_clip_config.json", json.dumps(config, indent=2) + "\n")
    # shared tensors (tied weights) are written twice: safetensors refuses aliases
    state = {k: v.detach().clone() for k, v in backbone.model.state_dict().items()}
    _write_weights(state, target / "open_clip_model.safetensors")
