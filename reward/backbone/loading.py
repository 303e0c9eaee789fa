"""Load open_clip models by name, with the right weights, activation, transform and tokenizer."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from reward.backbone.checks import refuse_code, refuse_giants, refuse_pickles
from reward.backbone.fetching import reachable
from reward.files.plain_json import read_object
from reward.files.quoting import quoted, shortened

LOCAL_PREFIX = "local-dir:"
HUB_PREFIX = "hf-hub:"


class LoadedModel(NamedTuple):
    """An open_clip model with its configuration, preprocessing and tokenizer."""

    model: nn.Module
    model_config: dict[str, Any]
    preprocess_config: dict[str, Any]
    tokenizer: Any


def resolve_backbone(name: str, folder: Path) -> str:
    """Make the path in a `local-dir:` name absolute, relative to `folder`. Other names are returned unchanged."""
    if not name.startswith(LOCAL_PREFIX):
        return name
    return LOCAL_PREFIX + str((folder / name[len(LOCAL_PREFIX) :]).resolve())


def local_folder(name: str) -> Path | None:
    """The folder in a `local-dir:` name; None for other names."""
    return Path(name[len(LOCAL_PREFIX) :]) if name.startswith(LOCAL_PREFIX) else None


def load_open_clip(name: str, pretrained: str | None) -> LoadedModel:
    """Load an open_clip model with its weights. A randomly initialised model is never returned.

    Args:
        name: open_clip model name, hf-hub:ORG/REPO or local-dir:FOLDER. A folder must have open_clip's own layout and
            safetensors weights; its text tower and tokenizer may be inside it.
        pretrained: pretrained tag or weights file; only for an open_clip model name.

    Raises:
        ValueError: an unknown name or tag, missing weights, or an activation that the weights were not trained with.
        MissingWeightsError: weights that are neither cached nor reachable.
    """
    import open_clip

    folder = local_folder(name)
    if folder is not None:
        return _load_local(name, folder)
    if name.startswith(HUB_PREFIX):
        with reachable(name):
            refuse_code(open_clip.factory.get_model_config(name) or {}, None, name)
            model = open_clip.create_model(name, require_pretrained=True)
            return _loaded(model, open_clip.factory.get_model_config(name), open_clip.get_tokenizer(name))

    model_config = open_clip.get_model_config(name.replace("/", "-"))
    if model_config is None:
        raise ValueError(
            f"Unknown backbone {quoted(name)}; expected an open_clip model (open_clip.list_models()), hf-hub:ORG/REPO "
            "or local-dir:FOLDER"
        )
    if pretrained is None:
        raise ValueError(
            f"Expected pretrained weights for backbone {quoted(name)} but got pretrained=None; choose one of "
            f"{open_clip.list_pretrained_tags_by_model(name)}, or a weights file"
        )
    quick_gelu = needs_quick_gelu(name, pretrained)
    with reachable(f"{name}/{pretrained}"):
        model = open_clip.create_model(name, pretrained, force_quick_gelu=quick_gelu, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(name)
    if quick_gelu:
        model_config["quick_gelu"] = True
    return _loaded(model, model_config, tokenizer)


def _load_local(name: str, folder: Path) -> LoadedModel:
    import open_clip

    config = _read_local_config(folder)
    refuse_pickles(folder)
    refuse_code(config, folder, str(folder / "open_clip_config.json"))
    try:
        overrides = {"text_cfg": text} if (text := _local_text_config(folder)) else {}
        refuse_giants(name, folder, config, overrides)
        model = open_clip.create_model(name, require_pretrained=True, pretrained_text=False, **overrides)
        return _loaded(model, config, _local_tokenizer(name, folder))
    # a wrong configuration can raise almost anything in open_clip, transformers, torch or safetensors
    except Exception as error:
        said = shortened(error, 1000)
        raise ValueError(f"Expected an open_clip model in {folder} but could not load it: {said}") from error


def needs_quick_gelu(name: str, pretrained: str) -> bool:
    """Whether QuickGELU must be forced on for these weights. OpenAI's weights, for example, were trained with it.

    Raises:
        ValueError: the tag is unknown, or the architecture has QuickGELU and the weights were trained without it.
    """
    import open_clip

    tag = open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained)
    if not tag:
        if os.path.isfile(pretrained):
            # a weights file does not name its activation, so the architecture's name decides
            return False
        raise ValueError(
            f"Unknown pretrained tag {quoted(pretrained)} for backbone {quoted(name)}; expected one of "
            f"{open_clip.list_pretrained_tags_by_model(name)}, or a weights file"
        )
    architecture = open_clip.get_model_config(name.replace("/", "-")).get("quick_gelu", False)
    weights = tag.get("quick_gelu", False)
    if architecture and not weights:
        raise ValueError(
            f"Backbone {name!r} uses QuickGELU but the weights {pretrained!r} were trained without it; use "
            f"{name.removesuffix('-quickgelu')!r}"
        )
    return weights and not architecture


def _loaded(model: nn.Module, model_config: dict[str, Any], tokenizer: Any) -> LoadedModel:
    return LoadedModel(model, model_config, dict(model.visual.preprocess_cfg), tokenizer)


def _read_local_config(folder: Path) -> dict[str, Any]:
    path = folder / "open_clip_config.json"
    if not path.is_file():
        raise ValueError(f"Expected a backbone folder with open_clip_config.json but there is none at {path}")
    config = read_object(path)
    if "model_cfg" not in config:
        raise ValueError(f"Expected the key 'model_cfg' in {path} but it has {sorted(config)}")
    model = config["model_cfg"]
    if not isinstance(model, dict) or not isinstance(model.get("text_cfg"), dict):
        raise ValueError(
            f"Expected model_cfg in {path} to be a mapping that contains a mapping text_cfg; download it again"
        )
    return model


def _local_text_config(folder: Path) -> dict[str, Any] | None:
    """The text tower's config with an absolute path to a Hugging Face tower inside the folder; None without one."""
    text = dict(_read_local_config(folder)["text_cfg"])
    tower = text.get("hf_model_name")
    if not tower or not (folder / tower).is_dir():
        return None
    return {**text, "hf_model_name": str(folder / tower), "hf_model_pretrained": False}


def _local_tokenizer(name: str, folder: Path) -> Any:
    import open_clip

    text = _read_local_config(folder)["text_cfg"]
    inside = text.get("hf_tokenizer_name")
    # open_clip looks for tokenizer files only at the top level of the folder
    if inside and inside not in (".", "./") and (folder / inside).is_dir():
        return open_clip.tokenizer.HFTokenizer(
            str(folder / inside),
            context_length=text.get("context_length", 77),
            tokenizer_mode=text.get("tokenizer_mode"),
            trust_remote_code=False,
            **{key: value for key, value in (text.get("tokenizer_kwargs") or {}).items() if key != "trust_remote_code"},
        )
    return open_clip.get_tokenizer(name)
