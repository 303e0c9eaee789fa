"""What contrastive attention does: a frozen, validated dataclass, with presets per depth of the language model."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from reward.files.quoting import quoted

Mode = Literal["residual", "post_norm", "attention_bias"]
MODES: tuple[str, ...] = get_args(Mode)

PUBLISHED_DEPTH = 32


def _help(text: str, default: Any) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ContrastiveAttentionConfig:
    """Layers, shares and form of the masking of "Where Does Vision Meet Language?" (arXiv 2601.08151v1).

    The defaults are those of LLaVA-1.5/1.6 7B, a language model of 32 layers. Where each value comes from:

    - `post_layer` = 28, `candidate_layers` = (2, 4, 8, 11, 12, 13), `review_layer` = 29: the paper. That it counts
      from 0 is our reading; the layer base is not published.
    - `rho` = 0.2: our choice; not published.
    - `lam` = 0.1: our choice; the paper says only that the scale is much smaller than 1.
    - query token (the prompt's last) and mean over heads: our reading; not published. They are not fields.
    - `mode` = "residual": the paper's words (the hidden states of the tokens are scaled). Llama blocks are pre-norm, so
      this leaves the review layer's own keys and values unchanged (RMSNorm divides the scale out) and acts one layer
      later, and lam = 0 is a jump, not the limit of small lam. The two other modes are ours:
      "post_norm" scales what the review layer's norm gives, hence that layer's keys and values;
      "attention_bias" adds log lam to the logits of those keys at the review layer, at the prefill and at every
      decode step: e^logit is scaled by lam, a true down-weighting.
    - `image_token_id` = None: the model's own `config.image_token_id`.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value out of range; layers not in the order candidates < post < review.

    Example:
        >>> ContrastiveAttentionConfig(mode="attention_bias", lam=0.05).review_layer
        29
        >>> ContrastiveAttentionConfig.for_depth(8, rho=0.3).candidate_layers
        (0, 1, 2, 3)
    """

    post_layer: int = _help("k: the layer after fusion whose attention is compared; 0-based", 28)
    candidate_layers: tuple[int, ...] = _help("C: layers before fusion, one of which is chosen", (2, 4, 8, 11, 12, 13))
    review_layer: int = _help("the deep layer at which tokens are scaled", 29)
    rho: float = _help("image tokens below this quantile of IA are scaled, in [0, 1)", 0.2)
    lam: float = _help("lambda: the scale, in [0, 1]; 1 changes nothing", 0.1)
    mode: Mode = _help("what is scaled: the residual stream, the normed input, or the attention", "residual")
    image_token_id: int | None = _help("id of the image placeholder token; null: the model's own", None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidate_layers", _layers(self.candidate_layers))
        for name in ("post_layer", "review_layer"):
            _require_index(name, getattr(self, name))
        for name in ("rho", "lam"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"Expected {name} to be a number, got {quoted(value)} of type {type(value).__name__}.")
            object.__setattr__(self, name, float(value))
        if not 0 <= self.rho < 1:
            raise ValueError(f"Expected rho in [0, 1), got {self.rho}. It is the share of image tokens to scale.")
        if not 0 <= self.lam <= 1:
            raise ValueError(f"Expected lam in [0, 1], got {self.lam}. It scales down; 1 changes nothing.")
        if self.mode not in MODES:
            raise ValueError(f"Expected mode to be one of {', '.join(MODES)}, got {quoted(self.mode)}.")
        if self.image_token_id is not None:
            _require_index("image_token_id", self.image_token_id)
        if max(self.candidate_layers) >= self.post_layer:
            raise ValueError(
                f"Expected every candidate layer below post_layer = {self.post_layer}, got {self.candidate_layers}. "
                "Candidates lie before fusion, post_layer after it."
            )
        if self.post_layer >= self.review_layer:
            raise ValueError(
                f"Expected post_layer below review_layer, got {self.post_layer} and {self.review_layer}. "
                "One pass is enough only when the attention is known before the review layer runs."
            )

    def check_depth(self, num_layers: int) -> None:
        """Refuse a model whose language model has too few layers.

        Raises:
            ValueError: `review_layer` is not among its layers, or is its last one in "residual" mode.
        """
        if self.review_layer >= num_layers:
            raise ValueError(
                f"Expected review_layer below the model's {num_layers} layers, got {self.review_layer} (0-based). "
                f"Take ContrastiveAttentionConfig.for_depth({num_layers}) or name the layers."
            )
        if self.mode == "residual" and self.review_layer == num_layers - 1:
            raise ValueError(
                f"Expected review_layer below {num_layers - 1}, the last layer, in residual mode, got "
                f"{self.review_layer}. Scaling a layer's input acts one layer later and there is none; take an "
                'earlier layer, or mode="post_norm" or "attention_bias".'
            )

    @classmethod
    def for_depth(cls, num_layers: int, **changes: Any) -> "ContrastiveAttentionConfig":
        """The preset for a language model of `num_layers` layers, with `changes` applied.

        32 layers (LLaVA-1.5/1.6 7B): the paper's. Any other depth, e.g. 28 (Qwen2.5-VL 7B), 36 (Qwen3-VL 4B) or 40
        (LLaVA-1.5 13B): our choice, the paper's layers at the same relative depth, ⌊l · n / 32⌋, with post < review
        < n − 1; the layers found by a probe of the model itself are better.

        Raises:
            ValueError: fewer than 4 layers, which cannot hold candidate < post < review < last.
        """
        if num_layers < 4:
            raise ValueError(f"Expected at least 4 layers (candidate, post, review, last), got {num_layers}.")

        def scaled(layer: int) -> int:
            return layer * num_layers // PUBLISHED_DEPTH

        published = cls()
        review = min(scaled(published.review_layer), num_layers - 2)
        post = min(scaled(published.post_layer), review - 1)
        candidates = {layer for layer in map(scaled, published.candidate_layers) if layer < post}
        layers = {"post_layer": post, "candidate_layers": tuple(sorted(candidates)), "review_layer": review}
        return cls(**(layers | changes))

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON can hold it."""
        return dataclasses.asdict(self) | {"candidate_layers": list(self.candidate_layers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ContrastiveAttentionConfig":
        """The config that `to_dict` described.

        Raises:
            ValueError: a name that is no field.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"Expected fields among {', '.join(known)}, got {', '.join(unknown)}.")
        return cls(**values)


def _layers(layers: Any) -> tuple[int, ...]:
    if isinstance(layers, str) or not hasattr(layers, "__iter__"):
        raise TypeError(f"Expected candidate_layers to be layer indices, got {quoted(layers)}.")
    layers = tuple(layers)
    for layer in layers:
        _require_index("candidate_layers", layer)
    if not layers or len(set(layers)) != len(layers):
        raise ValueError(f"Expected candidate_layers to be one or more different layers, got {layers}.")
    return layers


def _require_index(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"Expected {name} to be an integer, got {quoted(value)} of type {type(value).__name__}.")
    if value < 0:
        raise ValueError(f"Expected {name} to be 0 or more (layers and ids count from 0), got {value}.")
