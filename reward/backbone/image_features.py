"""Model input -> image features, without computing what a pooled class token makes of no use."""

from torch import Tensor, nn

from reward.backbone.last_block import can_end_early, must_be_whole, run_to_one_token


def encode_image(model: nn.Module, pixels: Tensor) -> Tensor:
    """Model input (B, 3, H, W) -> features (B, D) as `model.encode_image` gives them, up to rounding.

    A vision transformer that pools its class token runs its last block at that token alone. Other towers, and one that
    somebody hooked, wrapped, compiled or changed, run as they are.

    Args:
        model: an open_clip model whose attention is packed (`reward.backbone.attention.pack_attention`).
        pixels: normalised, of the tower's dtype.
    """
    visual = getattr(model, "visual", None)
    if not pools_the_class_token(model) or must_be_whole(visual.transformer, visual):
        return model.encode_image(pixels)
    pooled = visual.ln_post(run_to_one_token(visual.transformer, visual._embeds(pixels), 0))
    return pooled if visual.proj is None else pooled @ visual.proj


def pools_the_class_token(model: nn.Module) -> bool:
    """Whether the image tower is open_clip's plain vision transformer that reads its class token and nothing else."""
    from open_clip.transformer import VisionTransformer

    visual = getattr(model, "visual", None)
    return (
        type(visual) is VisionTransformer
        and visual.attn_pool is None
        and not visual.output_tokens
        and visual.pool_type == "tok"
        and can_end_early(visual.transformer)
    )
