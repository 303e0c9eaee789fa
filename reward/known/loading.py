"""Known rewards by name: `clipscore`, `clipscore@ViT-L-14/openai`, `vqascore@llava-hf/llava-1.5-7b-hf`, ..."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reward.known.known_reward import About, KnownReward

NAMES = ("clipscore", "pickscore", "hpsv2", "vqascore", "imscore")
_SOURCES = {
    "clipscore": "[@OPEN_CLIP_NAME/TAG]", "pickscore": "[@FOLDER_OR_HUB_ID]", "hpsv2": "[@CHECKPOINT.pt]",
    "vqascore": "@CAPTIONER", "imscore": "@MODULE.CLASS:HUB_ID",
}  # fmt: skip


def is_known(name: str) -> bool:
    """Whether a name is a known reward's, with or without its source.

    Example:
        >>> is_known("clipscore@ViT-L-14/openai"), is_known("models/clipscore")
        (True, False)
    """
    return name.partition("@")[0] in NAMES


def load_known(name: str, device: Any = None) -> "KnownReward":
    """The reward of `NAME[@SOURCE]`, on a device.

    Raises:
        ValueError: another name, a source that is missing or of another form.
        MissingWeightsError: weights that are neither cached nor reachable.
        OSError, ImportError: see each reward.
    """
    from reward.backbone.fetching import reachable

    kind, _, source = name.partition("@")
    if kind not in NAMES:
        raise ValueError(f"Expected a known reward, {', '.join(NAMES)}, but got {name!r}")
    if not source and not _SOURCES[kind].startswith("["):
        raise ValueError(f"Expected {kind}{_SOURCES[kind]} but got {name}")
    with reachable(name):
        reward = _LOADERS[kind](source)
    return reward.to(device) if device is not None else reward


def abouts() -> "dict[str, About]":
    """Name -> where each comes from."""
    from reward.known.clipscore import ClipScore
    from reward.known.hpsv2 import HPSv2
    from reward.known.imscore import ImscoreReward
    from reward.known.pickscore import PickScore
    from reward.known.vqascore import VQAScore

    kinds = (ClipScore, PickScore, HPSv2, VQAScore, ImscoreReward)
    return {f"{kind.name}{_SOURCES[kind.name]}": kind.about for kind in kinds}


def _clipscore(source: str) -> "KnownReward":
    from reward.backbone.towers import Backbone
    from reward.known.clipscore import DEFAULT_BACKBONE, ClipScore

    if not source:
        return ClipScore(Backbone(*DEFAULT_BACKBONE))
    if source.startswith(("local-dir:", "hf-hub:")):
        return ClipScore(Backbone(source))
    name, _, tag = source.rpartition("/")
    return ClipScore(Backbone(name or source, tag if name else None))


def _pickscore(source: str) -> "KnownReward":
    from reward.known.pickscore import DEFAULT_MODEL, PickScore

    return PickScore.from_pretrained(source or DEFAULT_MODEL)


def _hpsv2(source: str) -> "KnownReward":
    from reward.known.hpsv2 import CHECKPOINT, REPOSITORY, HPSv2

    if not source:
        from huggingface_hub import hf_hub_download

        source = hf_hub_download(REPOSITORY, CHECKPOINT)
    return HPSv2(source)


def _vqascore(source: str) -> "KnownReward":
    from reward.known.vqascore import VQAScore

    return VQAScore.from_pretrained(source)


def _imscore(source: str) -> "KnownReward":
    from reward.known.imscore import ImscoreReward

    return ImscoreReward.from_name(source)


_LOADERS = {
    "clipscore": _clipscore, "pickscore": _pickscore, "hpsv2": _hpsv2, "vqascore": _vqascore, "imscore": _imscore,
}  # fmt: skip
