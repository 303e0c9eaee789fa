"""The UNet's conditioning: the encoded prompt, and for SDXL also the picture's size."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

_PROMPT_CACHE_SIZE = 4096


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of R rows: one row per picture, or two with guidance, all negative prompts first.

    embeddings: (R,L,D), the input of cross-attention. added: None for SD 1.x; for SDXL `text_embeds` (R,P), the second
    text encoder's pooled output, and `time_ids` (R,6): original size, crop corner, target size, each height and width.
    """

    embeddings: torch.Tensor
    added: dict[str, torch.Tensor] | None = None


def is_sdxl(pipeline: Any) -> bool:
    """Whether a pipeline has SDXL's second text encoder."""
    return getattr(pipeline, "text_encoder_2", None) is not None


class PromptEncoder:
    """Encodes prompts with a pipeline's frozen text encoders, with a cache.

    Args:
        pipeline: a `StableDiffusionPipeline` or `StableDiffusionXLPipeline`.
        negative_prompt: for guidance.
        size: height and width of the pictures in pixels; part of SDXL's conditioning.
    """

    def __init__(self, pipeline: Any, negative_prompt: str, size: tuple[int, int]) -> None:
        self.pipeline, self.negative_prompt = pipeline, negative_prompt
        self.is_sdxl = is_sdxl(pipeline)
        encoders = [pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
        for encoder in encoders:
            if encoder is not None:
                encoder.eval().requires_grad_(False)
        # These values say "not cropped, not scaled", which SDXL associates with good pictures.
        self.time_ids = [float(value) for value in (*size, 0, 0, *size)]
        # diffusers' rule: without a negative prompt, SDXL uses zeros for it and not the embedding of the empty text.
        self.negative_is_zero = (
            self.is_sdxl and not negative_prompt and bool(pipeline.config.force_zeros_for_empty_prompt)
        )
        self._cache: OrderedDict[str, tuple[torch.Tensor, ...]] = OrderedDict()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], device: torch.device) -> tuple[torch.Tensor, ...]:
        """Embeddings (N,L,D); for SDXL also the pooled ones (N,P).

        Texts are encoded one at a time. An embedding then does not depend on its batch, and a resumed run does not
        depend on the cache.
        """
        rows = {}
        for prompt in prompts:
            if prompt in rows:
                continue
            if prompt not in self._cache:
                self._cache[prompt] = self._encode_one(prompt, device)
                if len(self._cache) > _PROMPT_CACHE_SIZE:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(prompt)
            rows[prompt] = self._cache[prompt]
        return tuple(torch.stack(parts) for parts in zip(*(rows[prompt] for prompt in prompts), strict=True))

    def _encode_one(self, prompt: str, device: torch.device) -> tuple[torch.Tensor, ...]:
        encoded = self.pipeline.encode_prompt(
            prompt, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        # SDXL: embeddings, negative ones, pooled, negative pooled; otherwise: embeddings, negative ones.
        return (encoded[0][0], encoded[2][0]) if self.is_sdxl else (encoded[0][0],)

    @torch.no_grad()
    def conditioning(self, prompts: Sequence[str], device: torch.device, *, guided: bool) -> Conditioning:
        """The conditioning of N pictures: N rows, or 2N rows if `guided`."""
        parts = self.encode(prompts, device)
        if guided:
            if self.negative_is_zero:
                negative = tuple(torch.zeros_like(part) for part in parts)
            else:
                negative = tuple(
                    part.expand(len(prompts), *part.shape[1:]) for part in self.encode([self.negative_prompt], device)
                )
            parts = tuple(torch.cat(pair) for pair in zip(negative, parts, strict=True))
        if not self.is_sdxl:
            return Conditioning(parts[0])
        embeddings, pooled = parts
        time_ids = torch.tensor([self.time_ids], dtype=embeddings.dtype, device=device)
        return Conditioning(embeddings, {"text_embeds": pooled, "time_ids": time_ids.expand(len(pooled), -1)})
