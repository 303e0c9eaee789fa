"""Load a pipeline for fine-tuning from a diffusers folder or hub id: Stable Diffusion, or a flow-matching model.

A pipeline that cannot be fine-tuned is refused by its class and scheduler, before any weights are downloaded.
"""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch

from rl.models.flow_scheduler import is_flow

# Names that the denoiser has in diffusers' pipelines.
DENOISERS = ("unet", "transformer")
DIFFUSION = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
# Pipelines that start from a picture, by the words in their names; and those that make something else, by parameters.
_FROM_A_PICTURE = re.compile(r"Img2Img|Image2Image|Inpaint|Control|Edit|Kontext|Fill|Redux|Upscale|Upsample|Layered")
_OTHER_PARAMETERS = ("num_frames", "video", "audio_duration", "mask_image", "control_image", "strength")


def load_pipeline(model: str, dtype: torch.dtype) -> Any:
    """Load `model` as the pipeline class that its `model_index.json` names.

    Args:
        model: folder or hub id.
        dtype: of the weights.

    Raises:
        OSError: there is no such model.
        ValueError: its class is not supported, e.g. an image editing pipeline.

    Example:
        >>> load_pipeline("stabilityai/stable-diffusion-xl-base-1.0", torch.bfloat16)
    """
    import diffusers

    index = diffusers.DiffusionPipeline.load_config(model)
    name = index.get("_class_name") or "no class"
    if name not in DIFFUSION:
        reason = _why_not_flow(model, index, name)
        if reason:
            raise ValueError(
                f"model: expected a text-to-image pipeline, {' or '.join(DIFFUSION)} or one with a transformer and a "
                f"flow-matching scheduler, got {name} in {model}: {reason}."
            )
    # No safety checker (SDXL has none): it replaces pictures by black ones, and their rewards would be wrong.
    checker = {"safety_checker": None, "requires_safety_checker": False} if name == DIFFUSION[0] else {}
    return getattr(diffusers, name).from_pretrained(model, dtype=dtype, **checker, **absent_parts(index))


def absent_parts(index: Mapping[str, Any]) -> dict[str, None]:
    """Parts that a pipeline was saved without, as arguments that `from_pretrained` needs for them.

    Args:
        index: the content of its `model_index.json`.

    Example:
        >>> absent_parts({"_class_name": "StableDiffusion3Pipeline", "text_encoder_3": [None, None]})
        {'text_encoder_3': None}
    """
    import diffusers

    optional = getattr(diffusers, index["_class_name"])._optional_components  # these it leaves out by itself
    return {name: None for name, kind in index.items() if kind in ([None, None], (None, None)) and name not in optional}


def _why_not_flow(model: str, index: Mapping[str, Any], name: str) -> str:
    """Why a pipeline cannot be a flow-matching policy, from its class and its scheduler's config; empty: it may be."""
    import diffusers

    pipeline_class = getattr(diffusers, name, None)
    if pipeline_class is None:
        return "diffusers has no such class"
    if word := _FROM_A_PICTURE.search(name):
        return f"{word[0]} pipelines start from a picture"
    asked = inspect.signature(pipeline_class.__call__).parameters
    if other := [parameter for parameter in _OTHER_PARAMETERS if parameter in asked]:
        return f"it takes {other[0]}, which text-to-image pipelines do not"
    parts = inspect.signature(pipeline_class.__init__).parameters
    denoisers = [part for part in parts if part.startswith(("transformer", "unet", "prior", "decoder"))]
    if denoisers != ["transformer"]:
        return f"its denoiser is {' and '.join(denoisers) or 'missing'}, not one transformer"
    scheduler = (index.get("scheduler") or [None, None])[1]
    scheduler_class = getattr(diffusers, str(scheduler), None)
    if scheduler_class is None:
        return f"its scheduler is {scheduler}, which diffusers does not have"
    if not is_flow({"_class_name": scheduler} | dict(scheduler_class.load_config(model, subfolder="scheduler"))):
        return f"its scheduler, {scheduler}, is not flow matching"
    return ""


def pipeline_class_name(model: str) -> str:
    """The class that the `model_index.json` of a folder or hub id names; "no class" if it names none.

    Raises:
        OSError: there is no such model.
    """
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.load_config(model).get("_class_name") or "no class"


def denoiser_name(pipeline: Any) -> str:
    """Name of the denoiser in a pipeline or pipeline class: `unet` or `transformer`.

    Raises:
        ValueError: it has neither.
    """
    pipeline_class = pipeline if isinstance(pipeline, type) else type(pipeline)
    parts = inspect.signature(pipeline_class.__init__).parameters
    found = [name for name in DENOISERS if name in parts]
    if not found:
        raise ValueError(f"model: expected a pipeline with a unet or a transformer, got {pipeline_class.__name__}.")
    return found[0]


def empty_denoiser(model: str) -> tuple[str, torch.nn.Module]:
    """Build the denoiser of a folder or hub id without weights (meta device), from its config.

    Returns:
        its name in the pipeline, and the module.

    Raises:
        OSError: there is no such model.
        ValueError: its model_index.json names no denoiser class of diffusers.
    """
    import diffusers
    from accelerate import init_empty_weights

    index = diffusers.DiffusionPipeline.load_config(model)
    name = next((name for name in DENOISERS if name in index), None)
    denoiser_class = getattr(diffusers, str(index[name][1]), None) if name else None
    if denoiser_class is None:
        raise ValueError(f"Expected a pipeline with a unet or transformer of diffusers in {model}, got {index}.")
    with init_empty_weights():
        return name, denoiser_class.from_config(denoiser_class.load_config(model, subfolder=name))
