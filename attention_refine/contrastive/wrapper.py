"""`ContrastiveAttention` applies contrastive attention to a model and records its decisions for each prompt."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attention_refine.contrastive.capture import AttentionCapture
from attention_refine.contrastive.config import ContrastiveAttentionConfig
from attention_refine.contrastive.contrast import hellinger, image_attention, quantile_mask
from attention_refine.contrastive.image_tokens import PromptTokens, find_grid, fold
from attention_refine.contrastive.prefill import Prefill


@dataclass(frozen=True, eq=False)
class ContrastRecord:
    """The decisions for one sample of the last prefill.

    Attributes:
        chosen_layer: i*, the candidate layer farthest from the post layer; None for a prompt without an image.
        distances: candidate layer -> Hellinger distance to the post layer, in [0, 1]; empty without an image.
        masked_share: share of the image tokens that are scaled, in [0, 1].
        ia: IA of the N image tokens in their order, (N,) float32.
        masked: whether each image token is scaled, (N,) bool.
        ia_maps: for each image, its maps of IA over the picture: one (rows, columns) map, for LLaVA-Next a coarse and a
            fine one, and none if the tokens form no grid.
        post_maps: maps of A at the post layer, which sums to 1 over the image tokens of the sample.
        masked_maps: maps of `masked`.
        mode: `config.mode`, how the tokens were scaled.
    """

    chosen_layer: int | None
    distances: dict[int, float]
    masked_share: float
    ia: Tensor
    masked: Tensor
    ia_maps: list[list[Tensor]]
    post_maps: list[list[Tensor]]
    masked_maps: list[list[Tensor]]
    mode: str


class ContrastiveAttention(AttentionCapture):
    """Scale down image tokens whose attention changes little between a layer before and a layer after fusion.

    A^(l) is the attention of the last prompt token over the image tokens at layer l, mean over heads, normalised. For
    each sample, the prefill decides (arXiv 2601.08151v1):

        i* = argmax over the candidates of H(A^(i), A^(k)),   IA = |A^(k) − A^(i*)|

    Tokens with IA below the ρ-quantile of their own image are scaled by λ at the review layer, in the way of
    `config.mode`. With λ = 1 the output is unchanged bit for bit. Use it as a context manager, or call `attach()` and
    `detach()`.

    Args:
        model: LLaVA, LLaVA-Next, Qwen2.5-VL, Qwen3-VL, Gemma 3 or a similar model.
        config: None uses the preset for the model's depth.

    Attributes:
        config: the configuration in use.
        records: one `ContrastRecord` for each row of the last prefill; with beam search, for each beam.

    Raises:
        ValueError: the layers do not fit the model, or there is no image token id; also as `AttentionCapture`.

    Example:
        >>> with ContrastiveAttention(model, config) as ca:  # doctest: +SKIP
        ...     tokens = model.generate(**inputs)
        >>> ca.records[0].chosen_layer  # doctest: +SKIP
        11
    """

    def __init__(self, model: nn.Module, config: ContrastiveAttentionConfig | None = None) -> None:
        token = config.image_token_id if config is not None else None
        super().__init__(model, layers=(), image_token_id=token)
        depth = len(self.decoder.layers)
        self.config = config if config is not None else ContrastiveAttentionConfig.for_depth(depth)
        self.config.check_depth(depth)
        self.layers = frozenset({*self.config.candidate_layers, self.config.post_layer})
        if self.config.mode == "attention_bias":
            self.bias_layers = frozenset({self.config.review_layer})
        if self.image_token_id is None:
            raise ValueError(
                f"Expected an image token id, got none in the config of {type(self.model).__name__}. "
                "Pass ContrastiveAttentionConfig(image_token_id=…)."
            )
        self.grid = find_grid(self.model)
        self._last: dict[str, Any] | None = None

    def on_prefill(self, prefill: Prefill) -> None:
        """Forget the last prompt."""
        self._last = None

    def on_row(self, layer: int, row: Tensor) -> None:
        """Record A^(l). At the post layer, decide which tokens to scale."""
        super().on_row(layer, row)
        if layer == self.config.post_layer:
            self._decide(self.step.prefill)

    def key_bias(self, layer: int) -> Tensor | None:
        """log λ on the chosen keys, in "attention_bias" mode."""
        return self.step.prefill.outcome.get("bias")

    def extra_hooks(self) -> list[Callable[[], Any]]:
        """Hooks that scale hidden states, for "residual" and "post_norm" mode."""
        layer = self.decoder.layers[self.config.review_layer]
        # The input of the attention is the output of the norm. A hook on the norm itself would have no effect under
        # torch.compile (2.14), which ignores the return value of a forward hook after a graph break.
        scaled = {"residual": layer, "post_norm": layer.self_attn}.get(self.config.mode)
        return [scaled.register_forward_pre_hook(self._scale_input, with_kwargs=True).remove] if scaled else []

    @property
    def records(self) -> list[ContrastRecord]:
        """One for each row of the last prefill; empty before the first."""
        if self._last is None:
            return []
        last = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in self._last.items()}
        return [self._record(last, sample) for sample in range(last["ia"].shape[0])]

    def _decide(self, prefill: Prefill) -> None:
        config, prompt = self.config, prefill.prompt
        device = self.rows[config.post_layer].device
        index = prompt.image_index.to(device)
        post = image_attention(self.rows[config.post_layer], index >= 0)
        before = torch.stack([image_attention(self.rows[i].to(device), index >= 0) for i in config.candidate_layers])
        distances = hellinger(before, post)
        best = distances.argmax(0)
        ia = (post - before[best, torch.arange(best.shape[0], device=device)]).abs()
        masked = quantile_mask(ia, index, config.rho)
        self._last = {"ia": ia, "post": post, "masked": masked, "best": best, "distances": distances, "prompt": prompt}
        if config.lam == 1 or not bool(masked.any()):
            return
        if config.mode == "attention_bias":
            # for lam = 0, half of the lowest number: added to any logit it stays finite, so no row is all -inf
            log = math.log(config.lam) if config.lam else torch.finfo(self.decoder.dtype).min / 2
            prefill.outcome["bias"] = masked * torch.tensor(log, dtype=torch.float32, device=device)
        else:
            prefill.outcome["scale"] = torch.where(masked, config.lam, 1.0)

    def _scaled(self, hidden: Tensor) -> Tensor | None:
        """Scale the prompt's tokens in hidden states (B, S or more, D); None in a decode step."""
        step = self.step
        scale = step.prefill.outcome.get("scale") if step is not None and not step.seen else None
        if scale is None:
            return None
        new = hidden.shape[1] - scale.shape[1]
        scale = torch.nn.functional.pad(scale, (0, new), value=1.0)
        return hidden * scale.to(hidden)[..., None]

    @torch.compiler.disable
    def _scale_input(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        hidden = self._scaled(args[0] if args else kwargs["hidden_states"])
        if hidden is None:
            return None
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    def _record(self, last: dict[str, Any], sample: int) -> ContrastRecord:
        prompt: PromptTokens = last["prompt"]
        inside = prompt.is_image[sample].cpu()
        any_image = bool(inside.any())
        candidates = self.config.candidate_layers
        masked = last["masked"][sample, inside]

        def maps(values: Tensor) -> list[list[Tensor]]:
            images = int(prompt.image_index[sample].max()) + 1
            return [fold(values, prompt, sample, image, self.grid) for image in range(images)]

        return ContrastRecord(
            chosen_layer=candidates[int(last["best"][sample])] if any_image else None,
            distances=dict(zip(candidates, last["distances"][:, sample].tolist(), strict=True)) if any_image else {},
            masked_share=float(masked.float().mean()) if any_image else 0.0,
            ia=last["ia"][sample, inside],
            masked=masked,
            ia_maps=maps(last["ia"]),
            post_maps=maps(last["post"]),
            masked_maps=maps(last["masked"]),
            mode=self.config.mode,
        )
