"""Model input -> image features, without computing tokens that are not pooled."""

from torch import Tensor, nn

from reward.backbone.last_block import can_end_early, must_be_whole, run_to_one_token


def encode_image(model: nn.Module, pixels: Tensor) -> Tensor:
    """Model input (B, 3, H, W) -> features (B, D), equal to `model.encode_image` up to rounding.

    If a vision transformer pools its class token, its last block is computed for that token only. Other towers run
    unchanged, and so does a tower that was hooked, wrapped, compiled or changed.

    Args:
        model: an open_clip model whose attention is packed (`reward.backbone.attention.pack_attention`).
        pixels: normalised images, in the tower's dtype.
    """
    visual = getattr(model, "visual", None)
    if not pools_the_class_token(model) or must_be_whole(visual.transformer, visual):
        return model.encode_image(pixels)
    pooled = visual.ln_post(run_to_one_token(visual.transformer, visual._embeds(pixels), 0))
    return pooled if visual.proj is None else pooled @ visual.proj


def pools_the_class_token(model: nn.Module) -> bool:
    """Whether the image tower is open_clip's plain vision transformer and pools only its class token."""
    from open_clip.transformer import VisionTransformer

    visual = getattr(model, "visual", None)
    return (
        type(visual) is VisionTransformer
        and visual.attn_pool is None
        and not visual.output_tokens
        and visual.pool_type == "tok"
        and can_end_early(visual.transformer)
    )
