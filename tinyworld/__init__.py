"""A small text-to-image world that fits in the repo: scenes, an exact oracle, and small trained models."""

from pathlib import Path

_NAMES = ("stable-diffusion", "open-clip", "hyperalign", "llava", "flow")


def weights_path(name: str) -> Path:
    """Folder of a shipped model.

    Args:
        name: ``"stable-diffusion"`` (a diffusers pipeline), ``"open-clip"`` (an open_clip ``local-dir:`` folder),
            ``"flow"`` (one too, of Stable Diffusion 3's classes), ``"hyperalign"`` (a ``HyperAlignReward`` folder) or
            ``"llava"`` (a transformers folder, with processor).

    Raises:
        ValueError: for another name.
        FileNotFoundError: when the folder is missing, which means that the weights were not installed.

    Example:
        >>> weights_path("open-clip").name
        'open-clip'
    """
    if name not in _NAMES:
        raise ValueError(f"Expected one of {', '.join(_NAMES)} as the name of a tiny-world model but got {name!r}.")
    folder = Path(__file__).resolve().parent / "weights" / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The tiny-world model {name!r} is not at {folder}. Reinstall the package, or train it again with "
            "`python -m tinyworld.pretrain`."
        )
    return folder
