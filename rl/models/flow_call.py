"""Call a diffusers pipeline with another function for its denoiser and its scheduler step, and with given noise.

The rest of the call is the pipeline's own: text encoding, packing, shifting of the schedule, guidance, decoding.
"""

import contextlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from rl.models.clamping import clamp_straight_through
from rl.models.policy import at_least_float32

_ENCODED_ROWS = 256  # of text embeddings that are kept; FLUX.1 has 4 MiB a row
_FILLER = "a picture"


class Finished(Exception):
    """Raised inside a pipeline's call to end it early, when the rest of the call is not needed."""


class PipelineCall:
    """Calls a pipeline of any family with the same arguments.

    Args:
        pipeline: a diffusers text-to-image pipeline with a `transformer`.
        resolution: picture side in pixels; 0: the pipeline's own.
        negative_prompt: negative prompt for guidance.
        max_sequence_length: text tokens; 0: the pipeline's own.

    Raises:
        ValueError: the pipeline lacks a parameter or method that is needed, or takes no negative prompt.
    """

    def __init__(self, pipeline: Any, resolution: int, negative_prompt: str, max_sequence_length: int = 0) -> None:
        self.pipeline, self.resolution, self.negative_prompt = pipeline, resolution, negative_prompt
        self.max_sequence_length = max_sequence_length
        self.name = type(pipeline).__name__
        self.parameters = inspect.signature(type(pipeline).__call__).parameters
        needed = ("prompt", "num_inference_steps", "output_type", "generator", "height", "width")
        missing = [name for name in needed if name not in self.parameters]
        if missing or not hasattr(pipeline, "prepare_latents"):
            what = f"the parameter {missing[0]}" if missing else "a method prepare_latents"
            raise ValueError(f"model: expected a text-to-image pipeline, got {self.name}, which lacks {what}.")
        if negative_prompt and "negative_prompt" not in self.parameters:
            raise ValueError(
                f"negative_prompts: {self.name} takes no negative prompt, got {negative_prompt!r}. Leave it empty."
            )
        if max_sequence_length and "max_sequence_length" not in self.parameters:
            raise ValueError(
                f"max_sequence_length: expected 0 with {self.name}, which has no such argument, got "
                f"{max_sequence_length}."
            )
        self.guidance_off = 1.0
        self.noise_place = 0  # of the latents among what `prepare_latents` returns
        self._forward = inspect.signature(type(pipeline.transformer).forward)
        self._encoded: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        pipeline.set_progress_bar_config(disable=True)

    def __call__(
        self,
        prompts: Sequence[str] | int,
        num_steps: int,
        guidance_scale: float,
        *,
        denoise: Callable[[dict[str, Any]], Any],
        step: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        noise: torch.Tensor | None = None,
        prepared: Callable[[Any], None] | None = None,
        images: bool = False,
    ) -> Any:
        """Call the pipeline; returns its result, or None if one of the functions raised `Finished`.

        Args:
            prompts: N texts; a number N: any text, for callers that replace the conditioning.
            num_steps: denoising steps.
            guidance_scale: <= 1: off.
            denoise: arguments by name -> what the transformer returns.
            step: model output, latents -> next latents; None: the scheduler's own step.
            noise: (N,...), replaces the noise that the pipeline draws; None: keep the pipeline's noise.
            prepared: called with the result of `prepare_latents`.
            images: also decode. The pictures are a float32 tensor in [0,1], with a gradient if the latents have one.
        """
        pipeline, scheduler = self.pipeline, self.pipeline.scheduler
        prompts = [_FILLER] * prompts if isinstance(prompts, int) else list(prompts)

        def take_step(model_output: Any, timestep: Any, sample: Any, *rest: Any, **options: Any) -> Any:
            following = step(model_output, sample)
            return (following,) if options.get("return_dict") is False else _Stepped(following)

        def prepare_latents(*given: Any, **options: Any) -> Any:
            result = own_latents(*given, **options)
            if prepared:
                prepared(result)
            return result if noise is None else self._with_noise(result, noise)

        own_latents = pipeline.prepare_latents
        stand_in = _StandIn(pipeline.transformer, self._forward, denoise)
        call = type(pipeline).__call__
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(Finished))
            stack.enter_context(replaced(pipeline, transformer=stand_in, prepare_latents=prepare_latents))
            if step:
                stack.enter_context(replaced(scheduler, step=take_step))
            if hasattr(pipeline, "encode_prompt"):
                stack.enter_context(replaced(pipeline, encode_prompt=self._remembering(pipeline.encode_prompt)))
            if images:
                # diffusers decorates `__call__` with no_grad; the function below the decorator keeps gradients.
                call = getattr(call, "__wrapped__", call)
                stack.enter_context(_gradients_through_decoding(pipeline))
            return call(pipeline, **self._arguments(prompts, num_steps, guidance_scale, images))
        return None

    def _arguments(self, prompts: list[str], num_steps: int, guidance_scale: float, images: bool) -> dict[str, Any]:
        guided = guidance_scale > 1
        # If both exist, `guidance_scale` is an input of a distilled model and keeps the pipeline's default.
        name = "true_cfg_scale" if "true_cfg_scale" in self.parameters else "guidance_scale"
        arguments: dict[str, Any] = {
            "prompt": prompts, "num_inference_steps": num_steps, "output_type": "pt" if images else "latent",
            # The pipeline's own noise is replaced; drawing it must not change the global generator.
            "generator": torch.Generator().manual_seed(0),
        }  # fmt: skip
        if name in self.parameters:
            arguments[name] = guidance_scale if guided else self.guidance_off
        if guided and "negative_prompt" in self.parameters:
            arguments["negative_prompt"] = [self.negative_prompt] * len(prompts)
        if self.resolution:
            arguments |= {"height": self.resolution, "width": self.resolution}
        if self.max_sequence_length:
            arguments["max_sequence_length"] = self.max_sequence_length
        if "use_resolution_binning" in self.parameters:
            arguments["use_resolution_binning"] = False
        return arguments

    def _with_noise(self, result: Any, noise: torch.Tensor) -> Any:
        if isinstance(result, torch.Tensor):
            return noise
        return tuple(noise if place == self.noise_place else part for place, part in enumerate(result))

    def _remembering(self, encode_prompt: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(encode_prompt)

        @torch.no_grad()
        def encode(*given: Any, **options: Any) -> Any:
            arguments = signature.bind(*given, **options).arguments
            if any(isinstance(value, torch.Tensor) for value in arguments.values()):
                return encode_prompt(*given, **options)
            key = repr(sorted(arguments.items()))
            if key not in self._encoded:
                texts = arguments.get("prompt")
                rows = len(texts) if isinstance(texts, list) else 1
                self._encoded[key] = (rows, encode_prompt(*given, **options))
            self._encoded.move_to_end(key)
            while len(self._encoded) > 1 and sum(rows for rows, _ in self._encoded.values()) > _ENCODED_ROWS:
                self._encoded.popitem(last=False)
            return self._encoded[key][1]

        return encode


class _StandIn:
    """Replaces a pipeline's transformer during a call: attributes are the module's, calls go to `denoise`."""

    def __init__(
        self, module: Any, signature: inspect.Signature, denoise: Callable[[dict[str, Any]], Any]
    ) -> None:
        self._module, self._signature, self._denoise = module, signature, denoise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __call__(self, *given: Any, **options: Any) -> Any:
        arguments = dict(self._signature.bind(self._module, *given, **options).arguments)
        arguments.pop(next(iter(self._signature.parameters)))
        return self._denoise(arguments)


class _Stepped:
    """Result of a scheduler's step with return_dict=True."""

    def __init__(self, latents: torch.Tensor) -> None:
        self.prev_sample = latents


@contextlib.contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Replace attributes of an object inside the block; skips diffusers' `__setattr__`, which records components."""
    kept = {name: vars(owner)[name] for name in attributes if name in vars(owner)}
    for name, value in attributes.items():
        object.__setattr__(owner, name, value)
    try:
        yield
    finally:
        for name in attributes:
            if name in kept:
                object.__setattr__(owner, name, kept[name])
            else:
                object.__delattr__(owner, name)


@contextlib.contextmanager
def _gradients_through_decoding(pipeline: Any) -> Iterator[None]:
    """Inside, the VAE takes latents of any precision, and a saturated pixel passes gradients on."""
    vae, processor = pipeline.vae, pipeline.image_processor
    decode, postprocess = vae.decode, processor.postprocess

    def decode_cast(latents: torch.Tensor, *given: Any, **options: Any) -> Any:
        return decode(latents.to(vae.dtype), *given, **options)

    def to_unit_interval(image: torch.Tensor, *given: Any, **options: Any) -> torch.Tensor:
        if not processor.config.do_normalize:
            return clamp_straight_through(at_least_float32(postprocess(image, *given, **options)))
        return clamp_straight_through(at_least_float32(image) * 0.5 + 0.5)

    with replaced(vae, decode=decode_cast), replaced(processor, postprocess=to_unit_interval):
        yield
