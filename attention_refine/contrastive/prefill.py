"""Classify a forward call: the prefill of a prompt, a repeat of the prompt without a cache, or a decode step."""

import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attention_refine.contrastive.image_tokens import PromptTokens, locate_images


@dataclass
class Prefill:
    """The prompts of one batch, from their first forward call on.

    Attributes:
        input_ids: (B, S).
        valid: (B, S) bool, False for left padding.
        placeholders: (B, S) bool, tokens that are replaced by vision features.
        lengths: number of tokens of every image of the batch; None if unknown.
        num_images: number of images in the batch; None if unknown.
        images: returns the pixels or encoded images of the call, or None if they have been freed.
        longest: length of the longest sequence so far, with use_cache=False.
        prompt: the image tokens; None until the embeddings are known.
        outcome: free for the owner, e.g. for the tokens that it scales.
    """

    input_ids: Tensor
    valid: Tensor
    placeholders: Tensor
    lengths: list[int] | None
    num_images: int | None
    images: Callable[[], Any]
    longest: int
    prompt: PromptTokens | None = None
    outcome: dict[str, Any] = field(default_factory=dict)

    def locate(self, inputs_embeds: Tensor | None, newline: Tensor | None) -> None:
        """Number the images. LLaVA-Next's newline tokens are those whose embedding equals `newline` bit for bit.

        Raises:
            ValueError: the number of images found is not `num_images`.
        """
        newlines = torch.zeros_like(self.placeholders)
        if newline is not None and inputs_embeds is not None:
            newlines = (inputs_embeds == newline.to(inputs_embeds)).all(-1).to(newlines.device) & self.placeholders
        self.prompt = locate_images(self.placeholders, newlines, self.valid, self.lengths)
        found = sum(int(sample.max()) + 1 for sample in self.prompt.image_index)
        if self.num_images is not None and found != self.num_images:
            raise ValueError(
                f"Expected {self.num_images} images in the prompts, found {found}. If images follow each other without "
                "a token in between, put one there, or call generate, which encodes the images first."
            )


@dataclass
class Step:
    """One forward call.

    Attributes:
        is_prefill: whether it is the first call of its prompt.
        prefill: the prompt.
        cache: the cache of the call, or None.
        seen: number of tokens in the cache before the call.
    """

    is_prefill: bool
    prefill: Prefill
    cache: Any
    seen: int


def read_call(
    call: Mapping[str, Any],
    image_token_id: int | None,
    model: nn.Module,
    previous: Prefill | None,
    by_cache: Mapping[Any, Prefill],
) -> Step:
    """Classify a forward call and find its prompt.

    Args:
        call: the arguments of the model's forward, by name.
        image_token_id: id of the image placeholder, or None.
        model: the captured model.
        previous: the prompt of the previous call, or None.
        by_cache: the prompt that filled each cache.

    Raises:
        ValueError: `inputs_embeds` without `input_ids`, right padding, chunked prefill, several tokens with a filled
            cache, or a cache that was filled before the capture began.
    """
    ids, cache = call.get("input_ids"), call.get("past_key_values")
    seen = int(cache.get_seq_length()) if cache is not None else 0
    if seen:
        return _decode(ids if ids is not None else call.get("inputs_embeds"), cache, seen, by_cache)
    if ids is None:
        raise ValueError(
            "Expected input_ids at the prefill, got only inputs_embeds, in which the image tokens cannot be found. "
            "Pass input_ids and pixel_values."
        )
    chunk = _prefill_chunk_size()
    if chunk is not None:
        raise ValueError(
            f"Expected the prompt to be prefilled at once, got prefill_chunk_size={chunk}. The attention would be that "
            "of the last token of the first chunk, not of the prompt. Pass prefill_chunk_size=None."
        )
    if _same_prompt(ids, call, previous):
        previous.longest = ids.shape[1]
        return Step(False, previous, None, 0)
    valid = _valid(call.get("attention_mask"), ids)
    placeholders = (ids == image_token_id) & valid if image_token_id is not None else torch.zeros_like(valid)
    lengths, count = _image_lengths(call, model, int(placeholders.sum()))
    prefill = Prefill(ids, valid, placeholders, lengths, count, _weakly(_images(call)), ids.shape[1])
    return Step(True, prefill, cache, 0)


def _prefill_chunk_size() -> int | None:
    """The `prefill_chunk_size` of the calling `generate`, or None.

    The arguments of forward do not show it: a first chunk looks like a whole prompt, and a last chunk of one token
    looks like a decode step. So the generation config is read from the frame of transformers' `_prefill`.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_prefill":
            return getattr(frame.f_locals.get("generation_config"), "prefill_chunk_size", None)
        frame = frame.f_back
    return None


def _decode(tokens: Tensor, cache: Any, seen: int, by_cache: Mapping[Any, Prefill]) -> Step:
    if tokens.shape[1] > 1:
        raise ValueError(
            f"Expected one token per decode step, got {tokens.shape[1]} with a cache of {seen} tokens, from assisted "
            "decoding or an earlier turn. The prompt must be prefilled at once: pass no assistant model and no filled "
            "past_key_values."
        )
    prefill = by_cache.get(cache)
    if prefill is None:
        raise ValueError(
            f"Expected a cache that was filled inside this context, got one of {seen} tokens that was filled outside. "
            "Enter the context before the prefill."
        )
    return Step(False, prefill, cache, seen)


def _same_prompt(ids: Tensor, call: Mapping[str, Any], previous: Prefill | None) -> bool:
    """Whether this call repeats the previous prompt plus one token, as every step does with use_cache=False."""
    if previous is None or call.get("use_cache") is not False or ids.shape[1] != previous.longest + 1:
        return False
    prompt = previous.input_ids
    same_rows = ids.shape[0] == prompt.shape[0] and ids.device == prompt.device
    return same_rows and _images(call) is previous.images() and torch.equal(ids[:, : prompt.shape[1]], prompt)


def _images(call: Mapping[str, Any]) -> Any:
    encoded = call.get("mm_encoder_outputs")
    if encoded and encoded.get("image") is not None:
        return encoded["image"]
    return call.get("pixel_values")


def _weakly(images: Any) -> Callable[[], Any]:
    """A weak reference to the images. A strong one would keep all hidden states of the vision tower in memory."""
    return weakref.ref(images) if images is not None else lambda: None


def _image_lengths(call: Mapping[str, Any], model: nn.Module, total: int) -> tuple[list[int] | None, int | None]:
    """The number of tokens of every image and the number of images; each is None if unknown."""
    features = getattr((call.get("mm_encoder_outputs") or {}).get("image"), "pooler_output", None)
    if isinstance(features, list | tuple):
        lengths = [feature.shape[0] for feature in features]
        return (lengths, len(lengths)) if sum(lengths) == total else (None, None)
    pixels = call.get("pixel_values")
    kind = getattr(getattr(model, "config", None), "model_type", "")
    if pixels is None or kind not in ("llava", "llava_next", "gemma3"):
        return None, None
    count = pixels.shape[0]
    return ([total // count] * count, count) if kind != "llava_next" and total % count == 0 else (None, count)


def _valid(mask: Any, ids: Tensor) -> Tensor:
    """(B, S) bool from a 2-D mask, a prepared 4-D mask, or a dict of masks by kind of layer.

    Raises:
        ValueError: the padding is on the right.
    """
    if isinstance(mask, Mapping):
        mask = mask.get("full_attention", next(iter(mask.values())))
    if mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if mask.dim() == 4:
        mask = mask[:, 0, -1]
        mask = (mask if mask.dtype == torch.bool else mask >= 0).expand(ids.shape[0], -1)
    valid = mask[:, : ids.shape[1]].to(ids.device).bool()
    if bool((valid[:, :-1] & ~valid[:, 1:]).any()) or not bool(valid[:, -1].all()):
        raise ValueError(
            "Expected padding only on the left, got an attention_mask with a 0 after a 1. "
            'Set processor.tokenizer.padding_side = "left". The last position must be the last token of the prompt.'
        )
    return valid
