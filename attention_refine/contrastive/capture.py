"""`AttentionCapture` records the last prompt token's attention at chosen layers, without eager attention.

It registers an attention function with its own name in transformers' AttentionInterface. It also registers the mask
in AttentionMaskInterface; without it transformers would silently ignore padding. Then it switches the config of the
language model to this name. The function calls the model's own implementation. At the chosen layers of a prefill it
also computes softmax(q·Kᵀ) for the last query only. No module is replaced, and a capture belongs to one model.
"""

import inspect
import itertools
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from attention_refine.contrastive.image_tokens import PromptTokens, find_image_token_id, find_newline
from attention_refine.contrastive.prefill import Prefill, Step, read_call
from attention_refine.vlm.decoder import find_decoder, unwrapped

_NUMBERS = itertools.count()


class AttentionCapture:
    """Record the attention of the last prompt token while a model runs.

    Use it as a context manager, or call `attach()` and `detach()`. Every forward call with an empty cache is a prefill
    and replaces the earlier recording. Decode steps are not recorded.

    Args:
        model: a transformers model with a decoder that uses `sdpa` or `eager` attention.
        layers: indices of the layers to record, 0-based; None records all layers.
        image_token_id: id of the image placeholder; None takes it from the model's config. A model without such an id
            has no image tokens.

    Attributes:
        rows: layer -> (B, S) float32, attention over the S prompt tokens, mean over heads; equal to eager attention's
            `attentions[layer][:, :, -1].mean(1)`.
        prompt: the image tokens and padding of the prompt; None before the first prefill.

    Raises:
        ValueError: a layer is out of range, or the attention implementation is neither sdpa nor eager. While the model
            runs: right padding, chunked prefill, or `inputs_embeds` without `input_ids`.
        RuntimeError: the model is already captured.

    Example:
        >>> with AttentionCapture(model, layers=(0, 3)) as capture:  # doctest: +SKIP
        ...     model.generate(**inputs)
        >>> capture.rows[3].shape  # doctest: +SKIP
        torch.Size([2, 590])
    """

    def __init__(
        self, model: nn.Module, layers: Iterable[int] | None = None, image_token_id: int | None = None
    ) -> None:
        self.model = unwrapped(model)
        self.decoder = find_decoder(self.model)
        depth = len(self.decoder.layers)
        self.layers = frozenset(range(depth) if layers is None else layers)
        outside = sorted(layer for layer in self.layers if not 0 <= layer < depth)
        if outside:
            raise ValueError(f"Expected layers within 0 to {depth - 1} (the model has {depth}), got {outside}.")
        self.bias_layers: frozenset[int] = frozenset()
        self.image_token_id = find_image_token_id(self.model, image_token_id)
        self.rows: dict[int, Tensor] = {}
        self.prompt: PromptTokens | None = None
        self.step: Step | None = None
        self.name: str | None = None
        self._signature = inspect.signature(type(self.model).forward)
        self._undo: list[Callable[[], Any]] = []
        self._prefill: Prefill | None = None
        self._by_cache: weakref.WeakKeyDictionary[Any, Prefill] = weakref.WeakKeyDictionary()

    # -- methods that a subclass may override

    def on_row(self, layer: int, row: Tensor) -> None:
        """Called in a prefill for each recorded layer, in order, with its attention row (B, S)."""
        self.rows[layer] = row

    def on_prefill(self, prefill: Prefill) -> None:
        """Called when a prefill begins."""

    def key_bias(self, layer: int) -> Tensor | None:
        """The bias (B, S) float32 for the logits of the prompt's keys; called at `bias_layers`. None adds nothing."""
        return None

    # -- switching on and off

    def attach(self) -> "AttentionCapture":
        """Switch the capture on until `detach()` is called; returns self. Errors as in the class."""
        from transformers import AttentionInterface, AttentionMaskInterface

        config = self.decoder.config
        base = config._attn_implementation
        if self.name is not None or base.startswith("attention_refine_"):
            raise RuntimeError(
                f"Expected a model whose attention is not captured yet, got {base!r}. Leave the other context first, "
                "or call its detach()."
            )
        if base not in ("sdpa", "eager"):
            raise ValueError(
                f"Expected sdpa or eager attention, got {base!r}. "
                'Load the model with attn_implementation="sdpa" or call model.set_attn_implementation("sdpa").'
            )
        self.name = f"attention_refine_{base}_{next(_NUMBERS)}"
        functions, masks = AttentionInterface._global_mapping, AttentionMaskInterface._global_mapping
        AttentionInterface.register(self.name, self._attention_function(base))
        AttentionMaskInterface.register(self.name, masks[base])
        # only the config of the language model; the vision tower has its own config and keeps its attention
        config._attn_implementation_internal = self.name
        self._undo = [
            lambda name=self.name: functions.pop(name, None),
            lambda name=self.name: masks.pop(name, None),
            lambda: setattr(config, "_attn_implementation_internal", base),
            self.model.register_forward_pre_hook(self._before, with_kwargs=True).remove,
            self.model.register_forward_hook(self._after, with_kwargs=True, always_call=True).remove,
        ]
        if self.decoder is not self.model:
            self._undo.append(self.decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True).remove)
        self._undo.extend(self.extra_hooks())
        forget_compiled()
        return self

    def extra_hooks(self) -> list[Callable[[], Any]]:
        """Register more hooks, in a subclass. Returns functions that remove them."""
        return []

    def detach(self) -> None:
        """Switch the capture off and restore the model. The recording is kept."""
        for undo in reversed(self._undo):
            undo()
        if self._undo:
            forget_compiled()
        self._undo = []
        self.name = self.step = self._prefill = None
        self._by_cache.clear()

    def __enter__(self) -> "AttentionCapture":
        return self.attach()

    def __exit__(self, *exception: object) -> None:
        self.detach()

    # -- while the model runs

    @torch.compiler.disable
    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.step = None
        call = self._signature.bind_partial(module, *args, **kwargs).arguments
        call = {**call, **call.pop("kwargs", {})}
        step = read_call(call, self.image_token_id, self.model, self._prefill, self._by_cache)
        if step.is_prefill:
            self.rows, self.prompt = {}, None
        self.step = step
        self._prefill = step.prefill
        if self.decoder is self.model:
            self._locate(step, None)

    @torch.compiler.disable
    def _before_decoder(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if self.step is None:
            raise RuntimeError(
                f"Expected a call of the wrapped {type(self.model).__name__}, got a call of its decoder, for which the "
                "image tokens are unknown. Wrap the module whose forward or generate you call."
            )
        self._locate(self.step, kwargs.get("inputs_embeds"))

    def _locate(self, step: Step, inputs_embeds: Tensor | None) -> None:
        if step.prefill.prompt is None:
            step.prefill.locate(inputs_embeds, find_newline(self.model))
        self.prompt = step.prefill.prompt
        if step.is_prefill:
            self.on_prefill(step.prefill)

    @torch.compiler.disable
    def _after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        step, self.step = self.step, None
        if step is None or not step.is_prefill or output is None:
            return
        returned = output if isinstance(output, tuple) else (getattr(output, "past_key_values", None),)
        for cache in (step.cache, *returned):
            if hasattr(cache, "get_seq_length"):
                self._by_cache[cache] = step.prefill

    def _attention_function(self, base: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
        from transformers import AttentionInterface

        def attend(module, query, key, value, attention_mask, **kwargs):
            run = eager_function(type(module)) if base == "eager" else AttentionInterface._global_mapping[base]
            # torch.compile traces only these two conditions; the work behind them is kept out of the graph
            layer = module.layer_idx
            if layer in self.layers and self.step.is_prefill:
                self._observe(layer, query, key, attention_mask, kwargs)
            if layer in self.bias_layers:
                attention_mask = self._biased(layer, query, key, attention_mask)
            return run(module, query, key, value, attention_mask, **kwargs)

        return attend

    @torch.compiler.disable
    @torch.no_grad()
    def _observe(self, layer: int, query: Tensor, key: Tensor, mask: Any, kwargs: dict) -> None:
        self.on_row(layer, last_row(query, key, mask, kwargs.get("scaling"), kwargs.get("softcap")))

    @torch.compiler.disable
    def _biased(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor | None:
        bias = self.key_bias(layer)
        if bias is None:
            return mask
        if bias.shape[0] != query.shape[0]:
            raise ValueError(
                f"Expected the {bias.shape[0]} samples of the prefill, got {query.shape[0]} in a decode step. "
                "Call generate with the rows that filled the cache."
            )
        return add_key_bias(bias, query, key, mask, self.step.seen + query.shape[2])


def forget_compiled() -> None:
    """Make torch.compile trace again. Code that was traced before a hook was added runs without the hook."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


def eager_function(kind: type) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The eager attention function from the modeling file of an attention class or of one of its parents.

    Raises:
        TypeError: no such file has an `eager_attention_forward`.
    """
    for parent in kind.__mro__:
        function = getattr(sys.modules.get(parent.__module__), "eager_attention_forward", None)
        if function is not None:
            return function
    raise TypeError(
        f"Expected an attention class whose module has an eager_attention_forward, got {kind.__name__}. "
        'Call model.set_attn_implementation("sdpa").'
    )


def last_row(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None, softcap: float | None) -> Tensor:
    """Attention of the last query over the first S keys, mean over heads.

    Args:
        query: (B, heads, S, D).
        key: (B, key-value heads, K, D), K ≥ S. A static cache has more keys than the prompt; those are ignored.
        mask: bool or additive, (B or 1, 1 or heads, S, K or more); None means causal.
        scaling: factor of the logits; None means 1/√D.
        softcap: bound of the logits (tanh); None means no bound.

    Returns:
        (B, S) float32; each row sums to 1.
    """
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    last = query[:, :, -1].reshape(batch, groups, heads // groups, width)
    logits = last @ key[:, :, :length].transpose(-1, -2)
    logits = logits.flatten(1, 2) * (scaling if scaling is not None else width**-0.5)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    if mask is not None:
        shown = mask[:, :, -1, :length]
        logits = logits.masked_fill(~shown, -torch.inf) if shown.dtype == torch.bool else logits + shown
    return torch.softmax(logits, dim=-1, dtype=torch.float32).mean(1)


def add_key_bias(bias: Tensor, query: Tensor, key: Tensor, mask: Tensor | None, total: int) -> Tensor:
    """An additive attention mask with `bias` added at the prompt's keys.

    Args:
        bias: (B, S), for the keys at positions 0 … S−1 of the prompt.
        query: (B, heads, Q, D), the last Q of all tokens so far.
        key: (B, key-value heads, K, D). With a sliding window they are the last keys, with a static cache the first.
        mask: bool or additive; None means causal.
        total: number of tokens so far.

    Returns:
        (B, 1 or heads, Q, K), in the query's dtype.
    """
    length, keys = query.shape[2], key.shape[2]
    first = max(total - keys, 0)
    wide = bias.new_zeros(bias.shape[0], keys)
    inside = bias[:, first : first + keys]
    wide[:, : inside.shape[1]] = inside
    wide = wide.to(device=query.device, dtype=query.dtype)[:, None, None]
    if mask is None:
        positions = torch.arange(first, first + keys, device=query.device)
        queries = torch.arange(total - length, total, device=query.device)
        mask = (positions <= queries[:, None])[None, None]
    if mask.dtype != torch.bool:
        return mask + wide
    return torch.where(mask, wide, torch.finfo(query.dtype).min)
