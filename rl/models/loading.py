"""Load a pipeline for fine-tuning from a diffusers folder or hub id: Stable Diffusion 1.x, 2.x or XL."""

import inspect
from typing import Any

import torch

# Names that the denoiser has in diffusers' pipelines.
DENOISERS = ("unet", "transformer")
SUPPORTED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def load_pipeline(model: str, dtype: torch.dtype) -> Any:
    """Load `model` as the pipeline class that its `model_index.json` names.

    Args:
        model: folder or hub id.
        dtype: of the weights.

    Raises:
        OSError: there is no such model.
        ValueError: its class is not supported, e.g. SD 3 or Flux.

    Example:
        >>> load_pipeline("stabilityai/stable-diffusion-xl-base-1.0", torch.bfloat16)
    """
    import diffusers

    name = pipeline_class_name(model)
    if name not in SUPPORTED:
        raise ValueError(
            f"model: expected a pipeline of class {' or '.join(SUPPORTED)}, got {name} in {model}. Only text-to-image "
            "models with a UNet and DDIM sampling are supported; choose a base model of SD 1.x, SD 2.x or SDXL."
        )
    # No safety checker (SDXL has none): it replaces pictures by black ones, and their rewards would be wrong.
    checker = {"safety_checker": None, "requires_safety_checker": False} if name == SUPPORTED[0] else {}
    return getattr(diffusers, name).from_pretrained(model, dtype=dtype, **checker)


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
