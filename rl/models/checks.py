"""Check a Stable Diffusion pipeline at loading for features that training does not support.

An error is raised if training would fail later or would train another function than the model's own, for example if the
UNet has other inputs. A warning is given if only the pictures change: for scheduler options that DDIM ignores, and for
prompts that the text encoder cuts.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from reward.files.quoting import quoted

# Options of diffusers' schedulers that change the noise levels, which DDIM ignores -> the value that turns them off.
_NOISE_LEVELS = {
    "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False, "use_lu_lambdas": False,
    "sigma_min": None, "sigma_max": None, "interpolation_type": "linear", "final_sigmas_type": "zero",
    "shift_terminal": None,
}  # fmt: skip
# DDPM's values for the variance of the added noise. Here `sample_eta` sets it.
_VARIANCES = (None, "fixed_small", "fixed_small_log")
_BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
# Samplers of distilled models -> their features that DDIM lacks.
_DISTILLED = {
    "LCMScheduler": "consistency steps (original_inference_steps, timestep_scaling)",
    "TCDScheduler": "trajectory consistency steps (original_inference_steps)",
}
_CHUNK = 1000


def check_pipeline(pipeline: Any) -> None:
    """Raise an error for a pipeline that cannot be trained here; warn once about scheduler options that are ignored.

    Args:
        pipeline: a `StableDiffusionPipeline` or `StableDiffusionXLPipeline`.

    Raises:
        ValueError: a UNet with other inputs than latents, timestep and prompt (inpainting, classes, guidance
            embedding of an LCM, image embeddings), or a scheduler that DDIM cannot replace.

    Example:
        >>> check_pipeline(StableDiffusionPipeline.from_pretrained("runwayml/stable-diffusion-inpainting"))
        ValueError: Expected a UNet with 4 input channels, as many as the VAE's latents have, got 9 ...
    """
    unet = pipeline.unet.config
    _check_channels(unet, pipeline.vae.config.latent_channels)
    for got, meaning in _other_inputs(unet, is_sdxl=getattr(pipeline, "text_encoder_2", None) is not None):
        raise ValueError(
            f"Expected a UNet whose only inputs are latents, timestep and prompt, got one with {got}: {meaning}. "
            "Choose a text-to-image base model of SD 1.x, SD 2.x or SDXL."
        )
    _check_scheduler(pipeline.scheduler)


def announce_cut_prompts(pipeline: Any, prompts: Iterable[str]) -> int:
    """Warn once, in the main process, if prompts are too long for a text encoder; returns the number of such prompts.

    With SDXL, a prompt counts if one of the two encoders cuts it.

    Example:
        >>> announce_cut_prompts(pipeline, ["a red ring", "a red ring " * 40])
        1
    """
    # Other families have a second text encoder with a longer context than CLIP's.
    if getattr(pipeline, "unet", None) is None:
        return 0
    tokenizers = [getattr(pipeline, name, None) for name in ("tokenizer", "tokenizer_2")]
    tokenizers = [tokenizer for tokenizer in tokenizers if tokenizer is not None]
    shortest = min((tokenizer.model_max_length for tokenizer in tokenizers), default=0)
    # A token has at least one byte, and two tokens are start and end. Shorter prompts are never cut.
    long = [prompt for prompt in dict.fromkeys(prompts) if len(prompt.encode()) > shortest - 2]
    cut = [prompt for start in range(0, len(long), _CHUNK) for prompt in _cut(tokenizers, long[start : start + _CHUNK])]
    if cut and os.environ.get("RANK", "0") == "0":
        warnings.warn(
            f"{len(cut)} prompts are longer than the {shortest} tokens that the model's text encoder reads, for "
            f"example {quoted(cut[0])}. The rest is ignored; shorten them.",
            stacklevel=2,
        )
    return len(cut)


def _cut(tokenizers: list[Any], prompts: list[str]) -> list[str]:
    found = set()
    for tokenizer in tokenizers:
        tokens = tokenizer(prompts, truncation=False, padding=False, verbose=False).input_ids
        found |= {place for place, row in enumerate(tokens) if len(row) > tokenizer.model_max_length}
    return [prompts[place] for place in sorted(found)]


def _check_channels(unet: Any, latent_channels: int) -> None:
    kinds = {9: "an inpainting model, with mask and masked picture", 8: "a model that edits a given picture",
             5: "a depth-to-image model", 7: "an upscaler"}  # fmt: skip
    if unet.in_channels != latent_channels:
        kind = kinds.get(unet.in_channels - latent_channels + 4, "it has other inputs besides latents")
        raise ValueError(
            f"Expected a UNet with {latent_channels} input channels, as many as the VAE's latents have, got "
            f"{unet.in_channels}: {kind}. Choose its text-to-image base model."
        )
    if unet.out_channels != latent_channels:
        raise ValueError(
            f"Expected a UNet with {latent_channels} output channels, as many as the VAE's latents have, got "
            f"{unet.out_channels}: a model that predicts its own variance is not supported. Choose another model."
        )


def _other_inputs(unet: Any, is_sdxl: bool) -> Iterator[tuple[str, str]]:
    """Inputs of a UNet besides latents, timestep and prompt, as (option and value, meaning)."""
    if unet.time_cond_proj_dim is not None:
        yield (
            f"time_cond_proj_dim={unet.time_cond_proj_dim}",
            "an LCM-distilled model, whose guidance is an embedding and whose steps are not DDIM steps",
        )
    for name in ("class_embed_type", "num_class_embeds"):
        if unet.get(name) is not None:
            yield f"{name}={unet[name]}", "a model of classes or of noise levels, which are not available here"
    if unet.get("encoder_hid_dim_type") not in (None, "text_proj"):
        yield f"encoder_hid_dim_type={unet.encoder_hid_dim_type}", "a model with embeddings of pictures (IP-Adapter)"
    expected = "text_time" if is_sdxl else None
    if unet.addition_embed_type != expected:
        meaning = f"expected {expected} for a pipeline of its class"
        yield f"addition_embed_type={unet.addition_embed_type}", meaning


def _check_scheduler(scheduler: Any) -> None:
    name, config = type(scheduler).__name__, scheduler.config
    given = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is None and given not in _BETA_SCHEDULES:
        raise ValueError(
            f"Expected a scheduler with beta_schedule {', '.join(_BETA_SCHEDULES)}, got {given!r} in {name}, whose "
            "noise levels DDIM does not have. Use another base model."
        )
    if config.get("use_flow_sigmas") or config.get("timestep_type", "discrete") == "continuous":
        option = "use_flow_sigmas=True" if config.get("use_flow_sigmas") else "timestep_type='continuous'"
        raise ValueError(
            f"Expected a scheduler with the discrete timesteps of a beta schedule, got {option} in {name}: the model "
            "is trained with other timesteps (flow matching, EDM). Use a base model such as SD 1.x, SD 2.x or SDXL 1.0."
        )
    ignored = [f"{option}={config[option]}" for option, off in _NOISE_LEVELS.items() if config.get(option, off) != off]
    if config.get("variance_type") not in _VARIANCES:
        ignored.append(f"variance_type={config['variance_type']}")
    ignored += [_DISTILLED[name]] if name in _DISTILLED else []
    if ignored:
        warnings.warn(
            f"The model's scheduler, {name}, is replaced by DDIM with the same beta schedule; ignored: "
            f"{', '.join(ignored)}. With few steps the pictures differ from those of the model's own sampler.",
            stacklevel=4,
        )
