"""A diffusers folder or hub id -> the pipeline that is fine-tuned: Stable Diffusion 1.x, 2.x or XL."""

import inspect
from typing import Any

import torch

# Where a diffusers pipeline keeps its denoiser.
DENOISERS = ("unet", "transformer")
SUPPORTED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def load_pipeline(model: str, dtype: torch.dtype) -> Any:
    """Load `model` as the class that its `model_index.json` names.

    Args:
        model: folder or hub id.
        dtype: of the weights.

    Raises:
        OSError: there is no such model.
        ValueError: it is of a class that cannot be fine-tuned here, e.g. SD 3 or Flux.

    Example:
        >>> load_pipeline("stabilityai/stable-diffusion-xl-base-1.0", torch.bfloat16)
    """
    import diffusers

    name = pipeline_class_name(model)
    if name not in SUPPORTED:
        raise ValueError(
            f"model: expected a pipeline of class {' or '.join(SUPPORTED)}, got {name} in {model}. Its sampler is not "
            "DDIM on a UNet conditioned on a prompt alone; choose a text-to-image base model of SD 1.x, SD 2.x or SDXL."
        )
    # SDXL ships without a checker. Pictures in training are the reward's to judge, and a blackened one misleads it.
    checker = {"safety_checker": None, "requires_safety_checker": False} if name == SUPPORTED[0] else {}
    return getattr(diffusers, name).from_pretrained(model, dtype=dtype, **checker)


def pipeline_class_name(model: str) -> str:
    """The class that `model_index.json` of a folder or hub id names; "no class" where it names none.

    Raises:
        OSError: there is no such model.
    """
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.load_config(model).get("_class_name") or "no class"


def denoiser_name(pipeline: Any) -> str:
    """`unet` or `transformer`: the component of a pipeline, or of a pipeline's class, that denoises.

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
    """The denoiser of a folder or hub id from its config alone, on the meta device, and its name in the pipeline.

    Raises:
        OSError: there is no such model.
        ValueError: its model_index.json names no denoiser of diffusers.
    """
    import diffusers
    from accelerate import init_empty_weights

    index = diffusers.DiffusionPipeline.load_config(model)
    name = next((name for name in DENOISERS if name in index), None)
    denoiser_class = getattr(diffusers, str(index[name][1]), None) if name else None
    if denoiser_class is None:
        raise ValueError(f"Expected a pipeline whose unet or transformer is of diffusers in {model}, got {index}.")
    with init_empty_weights():
        return name, denoiser_class.from_config(denoiser_class.load_config(model, subfolder=name))
