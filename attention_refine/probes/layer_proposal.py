"""Which layers contrastive attention should use in a model, from what a probe of it measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from attention_refine.contrastive.config import ContrastiveAttentionConfig

# of what the image is worth to the answers in all, the least that a layer of fusion adds
LEAST_GAIN = 0.05


@dataclass(frozen=True)
class LayerProposal:
    """Layers, 0-based, and why each was taken."""

    post_layer: int
    candidate_layers: tuple[int, ...]
    review_layer: int
    reasons: tuple[str, ...]

    def config(self, **changes: object) -> ContrastiveAttentionConfig:
        """The configuration with these layers; `changes` are its other fields.

        Example:
            >>> LayerProposal(28, (2, 4), 29, ()).config(mode="post_norm").review_layer
            29
        """
        layers = {name: getattr(self, name) for name in ("post_layer", "candidate_layers", "review_layer")}
        return ContrastiveAttentionConfig(**(layers | changes))


def propose_layers(
    gains: Sequence[float], gains_low: Sequence[float], image_share: Sequence[float]
) -> LayerProposal:
    """Layers for a model of L layers; the rule is ours, the paper read its layers off its curves.

    - Fusion: layers that add at least 5 % of what the image is worth in all, with an interval above 0.
    - Review: the deepest fusion layer of the second half, the last layer left out (scaling a residual stream acts one
      layer later); where none of them adds anything, the one of them that looks at the image most.
    - Post: the layer before it, as in the paper (28 before 29).
    - Candidates: the fusion layers before post; where there is none, the layer before post that adds most.

    Args:
        gains: what each layer adds to the accuracy by having the image: accuracy with the image zeroed from the next
            layer on, less that with it zeroed from this one on.
        gains_low: lower ends of their intervals.
        image_share: attention of the last prompt token on the image at each layer.

    Raises:
        ValueError: lists of different lengths, fewer than 4 layers, or a model that answers no better with the image.

    Example:
        >>> proposal = propose_layers([0, 0.3, 0.2, 0, 0, 0, 0.1, 0], [0, 0.2, 0.1, 0, 0, 0, 0.05, 0], [0.1] * 8)
        >>> proposal.candidate_layers, proposal.post_layer, proposal.review_layer
        ((1, 2), 5, 6)
    """
    depth = len(gains)
    if not depth == len(gains_low) == len(image_share):
        raise ValueError(f"Expected lists of one length, got {depth}, {len(gains_low)} and {len(image_share)}.")
    if depth < 4:
        raise ValueError(f"Expected at least 4 layers (candidate, post, review, last), got {depth}.")
    worth = sum(gains)
    fusion = [layer for layer in range(depth) if gains[layer] >= LEAST_GAIN * worth and gains_low[layer] > 0]
    if worth <= 0 or not fusion:
        raise ValueError(
            f"Expected a model that answers better with the image than without, got a difference of {worth:+.3f} that "
            "no layer accounts for. Ask more questions, or such as the image answers."
        )
    deep = range(max(2, depth // 2), depth - 1)
    late = [layer for layer in fusion if layer in deep]
    if late:
        review = late[-1]
        why = f"review {review}: the deepest layer of the second half that adds accuracy ({gains[review]:+.3f})"
    else:
        review = max(deep, key=lambda layer: image_share[layer])
        why = f"review {review}: no deep layer adds accuracy; it looks at the image most ({image_share[review]:.3f})"
    post = review - 1
    candidates = [layer for layer in fusion if layer < post]
    told = "layers before post that add accuracy"
    if not candidates:
        candidates = [max(range(post), key=lambda layer: gains[layer])]
        told = "no layer before post adds accuracy; the one that adds most"
    reasons = (why, f"post {post}: the layer before review", f"candidates {', '.join(map(str, candidates))}: {told}")
    return LayerProposal(post, tuple(candidates), review, reasons)
