"""The last block of an open_clip tower, computed only at the pooled token. Its other outputs are never used."""

from torch import Tensor, nn

from reward.backbone.attention import PackedAttention


def can_end_early(transformer: nn.Module) -> bool:
    """Whether a tower consists of open_clip's plain blocks, so that the last one can be computed at one token."""
    from open_clip.transformer import ResidualAttentionBlock, Transformer

    return (
        type(transformer) is Transformer
        and transformer.batch_first
        and len(transformer.resblocks) > 0
        and all(type(block) is ResidualAttentionBlock for block in transformer.resblocks)
        and type(transformer.resblocks[-1].attn) is PackedAttention
        and not hasattr(transformer.resblocks[-1], "ln_1_kv")
    )


def must_be_whole(transformer: nn.Module, *around: nn.Module) -> bool:
    """Whether a tower must run unchanged because it is hooked, wrapped, offloaded, compiled, changed or checkpointed.

    Ask at every call, because all of this can happen after the model was loaded.

    Args:
        transformer: the tower's blocks.
        around: other modules whose forward the caller of `run_to_one_token` skips or replaces.
    """
    if not can_end_early(transformer) or transformer.grad_checkpointing:
        return True
    return any(map(_is_touched, (transformer, *around, *transformer.resblocks[-1].modules())))


def _is_touched(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        or "forward" in vars(module)  # accelerate's offloading sets it
        or module._compiled_call_impl is not None
    )  # fmt: skip


def run_to_one_token(transformer: nn.Module, x: Tensor, at: Tensor | int, attn_mask: Tensor | None = None) -> Tensor:
    """`transformer(x, attn_mask)` at one token of each row, up to rounding.

    The last block needs only the keys and values of the other tokens. This saves ten twelfths of its products, which
    is 7 % of a tower of twelve blocks.

    Args:
        x: (B, L, D).
        at: index of the token in each row, (B,), or one index for all rows.
        attn_mask: (L, L), added to the logits.

    Returns:
        (B, D).
    """
    *blocks, last = transformer.resblocks
    for block in blocks:
        x = block(x, attn_mask=attn_mask)
    normed = last.ln_1(x)
    mask = None if attn_mask is None else attn_mask[at].expand(len(x), -1)
    one = _token(x, at) + last.ls_1(last.attn.of_one(_token(normed, at), normed, mask))
    return one + last.ls_2(last.mlp(last.ln_2(one)))


def _token(x: Tensor, at: Tensor | int) -> Tensor:
    if isinstance(at, int):
        return x[:, at]
    return x.gather(1, at.view(-1, 1, 1).expand(-1, 1, x.shape[-1])).squeeze(1)
