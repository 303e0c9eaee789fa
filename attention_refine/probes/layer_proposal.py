"""Propose the layers for contrastive attention in a model, from the measurements of a probe."""

from collections.abc import Sequence
from dataclasses import dataclass

from attention_refine.contrastive.config import ContrastiveAttentionConfig

# a fusion layer adds at least this share of the accuracy that the image adds in total
LEAST_GAIN = 0.05


@dataclass(frozen=True)
class LayerProposal:
    """The proposed layers, 0-based, and the reason for each."""

    post_layer: int
    candidate_layers: tuple[int, ...]
    review_layer: int
    reasons: tuple[str, ...]

    def config(self, **changes: object) -> ContrastiveAttentionConfig:
        """The configuration with these layers. `changes` sets its other fields.

        Example:
            >>> LayerProposal(28, (2, 4), 29, ()).config(mode="post_norm").review_layer
            29
        """
        layers = {name: getattr(self, name) for name in ("post_layer", "candidate_layers", "review_layer")}
        return ContrastiveAttentionConfig(**(layers | changes))


def propose_layers(
    gains: Sequence[float], gains_low: Sequence[float], image_share: Sequence[float]
) -> LayerProposal:
    """Propose layers for a model with L layers. The rule is ours; the paper chose its layers by looking at the curves.

    - Fusion layers add at least 5 % of the accuracy that the image adds in total, with an interval above 0.
    - Review: the deepest fusion layer in the second half of the model, without the last layer, because scaling a
      residual stream acts one layer later. If there is none, the layer in this range with most attention on the image.
    - Post: the layer before review, as in the paper (28 before 29).
    - Candidates: the fusion layers before post. If there is none, the layer before post that adds most.

    Args:
        gains: accuracy that each layer adds by seeing the image, (L,): accuracy with the image zeroed from the next
            layer on, minus accuracy with the image zeroed from this layer on. In [-1, 1].
        gains_low: lower ends of the intervals of `gains`, (L,).
        image_share: share of the last prompt token's attention on the image at each layer, (L,).

    Raises:
        ValueError: the lists differ in length, there are fewer than 4 layers, or the model does not answer better with
            the image.

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
            f"Expected a model that answers better with the image than without, got a difference of {worth:+.3f}, and "
            "no layer adds enough. Use more questions, or questions that need the image."
        )
    deep = range(max(2, depth // 2), depth - 1)
    late = [layer for layer in fusion if layer in deep]
    if late:
        review = late[-1]
        why = f"review {review}: the deepest layer of the second half that adds accuracy ({gains[review]:+.3f})"
    else:
        review = max(deep, key=lambda layer: image_share[layer])
        why = f"review {review}: no deep layer adds accuracy; it attends to the image most ({image_share[review]:.3f})"
    post = review - 1
    candidates = [layer for layer in fusion if layer < post]
    told = "layers before post that add accuracy"
    if not candidates:
        candidates = [max(range(post), key=lambda layer: gains[layer])]
        told = "no layer before post adds accuracy; the one that adds most"
    reasons = (why, f"post {post}: the layer before review", f"candidates {', '.join(map(str, candidates))}: {told}")
    return LayerProposal(post, tuple(candidates), review, reasons)
