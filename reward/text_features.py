"""Token ids -> text features, without computing what comes after a prompt's end."""

import torch
from torch import Tensor, nn

# Prompts of a like length go together, so that what is computed for one does not depend on the others.
_BUCKET = 4
# A tower this short has less to gain than a second pass costs.
_SHORT_CONTEXT = 32


def encode_text(model: nn.Module, tokens: Tensor, stops: bool | None = None) -> Tensor:
    """Token ids (B, context) -> features (B, D) as `model.encode_text` gives them, up to rounding.

    In a causal tower that pools at the end-of-text token nothing after that token is ever read: prompts of some ten
    tokens need a seventh of the arithmetic that CLIP's context of 77 asks for. Other towers run as they are.

    Args:
        model: an open_clip model.
        tokens: on any device; best on the CPU, where their lengths are read.
        stops: what `stops_at_the_end` says of the model, for callers that asked once.
    """
    device = next(model.parameters()).device
    if not (stops_at_the_end(model) if stops is None else stops):
        return model.encode_text(tokens.to(device))
    lengths = _ends(model, tokens) + 1
    lengths = (-(-lengths // _BUCKET) * _BUCKET).clamp(max=tokens.shape[1])
    order, features = [], []
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero().flatten()
        order.append(rows)
        features.append(_causal_tower(model, tokens[rows, :length].to(device)))
    if len(order) == 1:
        return features[0]
    return torch.cat(features)[torch.cat(order).argsort().to(device)]


def stops_at_the_end(model: nn.Module) -> bool:
    """Whether a long, causal text tower pools at the end-of-text token: then what follows need not be computed."""
    # open_clip's CLIP class, whose text tower are attributes of the model itself; others have it in model.text
    mask = getattr(model, "attn_mask", None)
    return (
        hasattr(model, "token_embedding")
        and getattr(model, "text_pool_type", None) in ("argmax", "eos")
        and isinstance(mask, Tensor)
        and mask.ndim == 2
        and mask.shape[0] > _SHORT_CONTEXT
        # a causal mask and nothing else
        and bool((mask.triu(1) == mask.new_full(mask.shape, -torch.inf).triu(1)).all())
    )


def _ends(model: nn.Module, tokens: Tensor) -> Tensor:
    """Where each row is pooled (B,)."""
    if model.text_pool_type == "argmax":
        return tokens.argmax(dim=-1)
    return (tokens == model.text_eos_id).int().argmax(dim=-1)


def _causal_tower(model: nn.Module, tokens: Tensor) -> Tensor:
    """What open_clip's CLIP.encode_text does, for a shorter context."""
    length = tokens.shape[1]
    dtype = model.transformer.get_cast_dtype()
    x = model.token_embedding(tokens).to(dtype) + model.positional_embedding[:length].to(dtype)
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), _ends(model, tokens)]
    projection = model.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
