"""The configuration of contrastive attention: a frozen, validated dataclass with a preset for each model depth."""

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
    """Configuration of the contrastive attention of "Where Does Vision Meet Language?" (arXiv 2601.08151v1).

    The defaults are for LLaVA-1.5/1.6 7B, whose language model has 32 layers. Their sources:

    - `post_layer` = 28, `candidate_layers` = (2, 4, 8, 11, 12, 13), `review_layer` = 29: from the paper. It does not
      say where it starts to count; we count from 0.
    - `rho` = 0.2: our choice; not published.
    - `lam` = 0.1: our choice; the paper only says that the scale is much smaller than 1.
    - Query token (the last of the prompt) and mean over heads: our choice; not published. They are not fields.
    - `mode` = "residual": as in the paper, the hidden states of the tokens are scaled. Llama blocks are pre-norm, and
      RMSNorm removes the scale. The keys and values of the review layer itself therefore do not change; the effect
      starts one layer later. lam = 0 is not the limit of small lam. The other two modes are ours.
    - `mode` = "post_norm": the output of the review layer's norm is scaled, and so are the keys and values of that
      layer.
    - `mode` = "attention_bias": log lam is added to the logits of the tokens' keys at the review layer, in the prefill
      and in every decode step. This multiplies e^logit by lam.
    - `image_token_id` = None: taken from the model's `config.image_token_id`.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of range, or the layers are not in the order candidates < post < review.

    Example:
        >>> ContrastiveAttentionConfig(mode="attention_bias", lam=0.05).review_layer
        29
        >>> ContrastiveAttentionConfig.for_depth(8, rho=0.3).candidate_layers
        (0, 1, 2, 3)
    """

    post_layer: int = _help("k: the layer after fusion whose attention is compared; 0-based", 28)
    candidate_layers: tuple[int, ...] = _help("C: layers before fusion; one is chosen", (2, 4, 8, 11, 12, 13))
    review_layer: int = _help("the deep layer at which tokens are scaled", 29)
    rho: float = _help("image tokens with IA below this quantile are scaled, in [0, 1)", 0.2)
    lam: float = _help("lambda: the scale, in [0, 1]; 1 changes nothing", 0.1)
    mode: Mode = _help("what is scaled: the residual stream, the normed input, or the attention", "residual")
    image_token_id: int | None = _help("id of the image placeholder token; null: from the model's config", None)

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
            raise ValueError(f"Expected lam in [0, 1], got {self.lam}. It is a factor; 1 changes nothing.")
        if self.mode not in MODES:
            raise ValueError(f"Expected mode to be one of {', '.join(MODES)}, got {quoted(self.mode)}.")
        if self.image_token_id is not None:
            _require_index("image_token_id", self.image_token_id)
        if max(self.candidate_layers) >= self.post_layer:
            raise ValueError(
                f"Expected every candidate layer below post_layer = {self.post_layer}, got {self.candidate_layers}. "
                "Candidate layers come before fusion, post_layer comes after it."
            )
        if self.post_layer >= self.review_layer:
            raise ValueError(
                f"Expected post_layer below review_layer, got {self.post_layer} and {self.review_layer}. "
                "The attention must be known before the review layer runs."
            )

    def check_depth(self, num_layers: int) -> None:
        """Check that the layers fit a language model of `num_layers` layers.

        Raises:
            ValueError: `review_layer` does not exist, or is the last layer in "residual" mode.
        """
        if self.review_layer >= num_layers:
            raise ValueError(
                f"Expected review_layer below the model's {num_layers} layers, got {self.review_layer} (0-based). "
                f"Use ContrastiveAttentionConfig.for_depth({num_layers}) or set the layers."
            )
        if self.mode == "residual" and self.review_layer == num_layers - 1:
            raise ValueError(
                f"Expected review_layer below {num_layers - 1}, the last layer, in residual mode, got "
                f"{self.review_layer}. Scaling the input of a layer acts one layer later, and there is none. Use an "
                'earlier layer, or mode="post_norm" or "attention_bias".'
            )

    @classmethod
    def for_depth(cls, num_layers: int, **changes: Any) -> "ContrastiveAttentionConfig":
        """The preset for a language model of `num_layers` layers, with the fields in `changes` replaced.

        For 32 layers (LLaVA-1.5/1.6 7B) it has the paper's layers. For another depth n, e.g. 28 (Qwen2.5-VL 7B), 36
        (Qwen3-VL 4B) or 40 (LLaVA-1.5 13B), it has the layers at the same relative depth, ⌊l · n / 32⌋, with
        post < review < n − 1. This rule is ours. Layers found by a probe of the model itself are better.

        Raises:
            ValueError: there are fewer than 4 layers (candidate < post < review < last).
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
        """Every field, as JSON values."""
        return dataclasses.asdict(self) | {"candidate_layers": list(self.candidate_layers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ContrastiveAttentionConfig":
        """Inverse of `to_dict`.

        Raises:
            ValueError: a key is not a field.
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
