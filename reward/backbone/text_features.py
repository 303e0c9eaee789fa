"""Token ids -> text features, without computing what a pooled end-of-text token makes of no use."""

import enum

import torch
from torch import Tensor, nn

from reward.backbone.last_block import can_end_early, must_be_whole, run_to_one_token

# Prompts of a like length go together, so that what is computed for one does not depend on the others.
_BUCKET = 4
# A tower this short has less to gain than a second pass costs.
_SHORT_CONTEXT = 32


class TextTower(enum.Enum):
    """What is never read of a model's text tower."""

    WHOLE = "nothing that is known"
    ONE_TOKEN = "what the last block makes of other tokens than the pooled one"
    CAUSAL = "that, and everything after the pooled token"


def encode_text(model: nn.Module, tokens: Tensor, kind: TextTower | None = None) -> Tensor:
    """Token ids (B, context) -> features (B, D) as `model.encode_text` gives them, up to rounding.

    In a causal tower that pools at the end-of-text token nothing after that token is ever read: prompts of some ten
    tokens need a seventh of the arithmetic that CLIP's context of 77 asks for. The last block is run at that token
    alone. Other towers, and one that somebody hooked, wrapped, compiled or changed, run as they are.

    Args:
        model: an open_clip model whose attention is packed (`reward.backbone.attention.pack_attention`).
        tokens: on any device; best on the CPU, where their lengths are read.
        kind: what `text_tower` says of the model, for callers that asked once.
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
    """Which towers these are: of open_clip's plain blocks, pooled at the end-of-text token; causal and long."""
    # open_clip's CLIP class, whose text tower are attributes of the model itself; others have it in model.text
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
    # a causal mask and nothing else
    if long and bool((mask.triu(1) == mask.new_full(mask.shape, -torch.inf).triu(1)).all()):
        return TextTower.CAUSAL
    return TextTower.ONE_TOKEN


def _ends(model: nn.Module, tokens: Tensor) -> Tensor:
    """Where each row is pooled (B,)."""
    if model.text_pool_type == "argmax":
        return tokens.argmax(dim=-1)
    return (tokens == model.text_eos_id).int().argmax(dim=-1)


def _run(model: nn.Module, tokens: Tensor, ends: Tensor) -> Tensor:
    """What open_clip's CLIP.encode_text does, for a shorter context and one token of each row."""
    length = tokens.shape[1]
    dtype = model.transformer.get_cast_dtype()
    x = model.token_embedding(tokens).to(dtype) + model.positional_embedding[:length].to(dtype)
    mask = None if model.attn_mask is None else model.attn_mask[:length, :length]
    x = model.ln_final(run_to_one_token(model.transformer, x, ends, mask))
    projection = model.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
