"""Token ids -> text features, without computing tokens that do not affect the pooled end-of-text token."""

import enum

import torch
from torch import Tensor, nn

from reward.backbone.last_block import can_end_early, must_be_whole, run_to_one_token

# Lengths are rounded up to a multiple of this. Prompts of one rounded length run together, so that the features of a
# prompt do not depend on the others.
_BUCKET = 4
# With a context this short, cutting saves less than a second pass costs.
_SHORT_CONTEXT = 32


class TextTower(enum.Enum):
    """Which part of a model's text tower does not affect its output and can be skipped."""

    WHOLE = "nothing"
    ONE_TOKEN = "the last block at all tokens but the pooled one"
    CAUSAL = "the last block at all tokens but the pooled one, and everything after the pooled token"


def encode_text(model: nn.Module, tokens: Tensor, kind: TextTower | None = None) -> Tensor:
    """Token ids (B, context) -> features (B, D), equal to `model.encode_text` up to rounding.

    In a causal tower that pools at the end-of-text token, the tokens after it do not affect the features. A prompt of
    about ten tokens then needs a seventh of the arithmetic of CLIP's context of 77. The last block is computed for the
    pooled token only. Other towers run unchanged, and so does a tower that was hooked, wrapped, compiled or changed.

    Args:
        model: an open_clip model whose attention is packed (`reward.backbone.attention.pack_attention`).
        tokens: on any device. The CPU is fastest, because the lengths are read there.
        kind: result of `text_tower(model)`, for callers that keep it; None asks again.
    """
    device = next(model.parameters()).device
    kind = text_tower(model) if kind is None else kind
    if kind is TextTower.WHOLE or must_be_whole(model.transformer):
        return model.encode_text(tokens.to(device))
    ends = _ends(model, tokens)
    if kind is TextTower.ONE_TOKEN:
        return _run(model, tokens.to(device), ends.to(device))
    lengths = (-(-(ends + 1) // _BUCKET) * _BUCKET).clamp(max=tokens.shape[1])
    order, features = [], []
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero().flatten()
        order.append(rows)
        features.append(_run(model, tokens[rows, :length].to(device), ends[rows].to(device)))
    if len(order) == 1:
        return features[0]
    return torch.cat(features)[torch.cat(order).argsort().to(device)]


def text_tower(model: nn.Module) -> TextTower:
    """Find which part of a model's text tower can be skipped.

    Something can be skipped if the tower consists of open_clip's plain blocks and pools at the end-of-text token.
    """
    # in open_clip's CLIP class the text tower's modules are attributes of the model; other classes have model.text
    if not (
        hasattr(model, "token_embedding")
        and getattr(model, "text_pool_type", None) in ("argmax", "eos")
        and can_end_early(getattr(model, "transformer", None))
    ):
        return TextTower.WHOLE
    mask = getattr(model, "attn_mask", None)
    if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2 and mask.is_floating_point()):
        return TextTower.WHOLE
    long = mask is not None and mask.shape[0] > _SHORT_CONTEXT
    # exactly a causal mask
    if long and bool((mask.triu(1) == mask.new_full(mask.shape, -torch.inf).triu(1)).all()):
        return TextTower.CAUSAL
    return TextTower.ONE_TOKEN


def _ends(model: nn.Module, tokens: Tensor) -> Tensor:
    """Index of the pooled token in each row, (B,)."""
    if model.text_pool_type == "argmax":
        return tokens.argmax(dim=-1)
    return (tokens == model.text_eos_id).int().argmax(dim=-1)


def _run(model: nn.Module, tokens: Tensor, ends: Tensor) -> Tensor:
    """open_clip's CLIP.encode_text for a shorter context and one token of each row."""
    length = tokens.shape[1]
    dtype = model.transformer.get_cast_dtype()
    x = model.token_embedding(tokens).to(dtype) + model.positional_embedding[:length].to(dtype)
    mask = None if model.attn_mask is None else model.attn_mask[:length, :length]
    x = model.ln_final(run_to_one_token(model.transformer, x, ends, mask))
    projection = model.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
