"""What a model can be called, on the command line, in recipes and in Python; and which of them are on this machine.

    FOLDER or ORG/NAME            a HyperAlign model, trained: `HyperAlignReward.from_pretrained`
    NAME/TAG                      an open_clip model, ViT-B-16/openai for example: its cosine, CLIP's own score
    local-dir:DIR, hf-hub:ORG/REPO  the same of open_clip weights elsewhere
    clipscore, pickscore, ...     what others published: `reward.known`
    tinyworld                     the built-in model, which knows coloured shapes and nothing of photographs
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward.known.loading import abouts, is_known, load_known

if TYPE_CHECKING:
    import torch

    from reward.hyperalign_reward import HyperAlignReward
    from reward.known.known_reward import KnownReward

DEFAULT_MODEL = "ViT-B-16/openai"
TINY_WORLD = "tinyworld"


def load_model(
    name: str | os.PathLike,
    device: "str | torch.device | None" = None,
    tiny_world: Callable[[], Path] | None = None,
) -> "HyperAlignReward | KnownReward":
    """The reward of that name, on `device`.

    Args:
        name: as in the list at the top of this file; a folder of one of these names is ./NAME.
        tiny_world: gives the folder of the built-in model. Entry scripts know it, the library does not.

    Raises:
        MissingWeightsError: weights that are neither cached nor reachable.
        FileNotFoundError, ValueError: no such model, or a damaged one.

    Example:
        >>> load_model("ViT-B-16/openai").backbone.embed_dim  # doctest: +SKIP
        512
    """
    from reward.backbone.fetching import reachable
    from reward.hyperalign_reward import HyperAlignReward

    text = os.fspath(name)
    if is_known(text):
        return load_known(text, device)
    if text == TINY_WORLD and tiny_world is not None:
        return HyperAlignReward.from_pretrained(str(tiny_world()), device=device)
    if (backbone := open_clip_name(text)) is None:
        with reachable(text):
            return HyperAlignReward.from_pretrained(text, device=device)
    import warnings

    with warnings.catch_warnings():
        # that the head is untrained is what who names an open_clip model asks for
        warnings.filterwarnings("ignore", message="This HyperAlign head is untrained")
        return HyperAlignReward.from_backbone(backbone[0], pretrained=backbone[1], device=device)


def open_clip_name(name: str) -> tuple[str, str | None] | None:
    """(open_clip name, pretrained tag or None) of NAME/TAG, local-dir:DIR and hf-hub:ORG/REPO; None for other names."""
    if name.startswith(("local-dir:", "hf-hub:")):
        return name, None
    architecture, slash, tag = name.rpartition("/")
    if not slash or not tag or Path(name).is_dir():
        return None
    import open_clip

    return (architecture, tag) if architecture in open_clip.list_models() else None


def fetch_model(name: str) -> None:
    """Download a model's weights into the cache, so that it can be named where there is no network.

    Raises:
        MissingWeightsError: no connection.
        ValueError: an unknown tag of an open_clip model.
    """
    load_model(name)


def describe_models(everything: bool = False) -> str:
    """What can be named, what is cached and, with `everything`, every open_clip NAME/TAG; as lines of text."""
    from reward.backbone.fetching import cached_files, cached_tags

    tags, files = cached_tags(), cached_files()
    trained = sorted(name for name, inside in files.items() if {"config.json", "model.safetensors"} <= inside)
    trained = [name for name in trained if _is_hyperalign(name)]
    there = "cached" if DEFAULT_MODEL in tags else "not cached: hyperalign models --fetch " + DEFAULT_MODEL
    lines = [
        f"{DEFAULT_MODEL:<32}the default, CLIP's cosine ({there})",
        f"{'NAME/TAG':<32}any open_clip model; hyperalign models --all lists them",
        f"{'local-dir:DIR, hf-hub:ORG/REPO':<32}open_clip weights elsewhere",
        f"{'FOLDER or ORG/NAME':<32}a HyperAlign model, made by hyperalign train",
        f"{TINY_WORLD:<32}built in; knows coloured shapes, nothing of photographs",
        *(f"{name:<32}{about.source}" for name, about in abouts().items()),
        "",
        "open_clip models in the cache: " + (", ".join(tags) or "none"),
        "HyperAlign models in the cache: " + (", ".join(trained) or "none"),
    ]
    if everything:
        import open_clip

        lines += ["", *(f"{name}/{tag}" for name, tag in open_clip.list_pretrained())]
    return "\n".join(lines)


def _is_hyperalign(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    from reward.model.config import HyperAlignConfig

    config: Any = try_to_load_from_cache(repository, "config.json")
    try:
        HyperAlignConfig.from_json(Path(config).read_text(encoding="utf-8"))
    except (OSError, TypeError, ValueError):
        return False
    return True
