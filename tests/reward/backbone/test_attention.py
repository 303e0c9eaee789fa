"""Packed self-attention is torch's own, with its gradients; what is not the plain case is torch's own altogether."""

import copy

import pytest
import torch
from torch import nn

from reward.backbone.attention import PackedAttention, pack_attention

WIDTH, HEADS = 24, 3


def pair(dtype=torch.float64, **options):
    """Torch's attention and the packed one of the same weights."""
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=dtype, **options).eval()
    nn.init.normal_(plain.in_proj_weight, std=0.5)
    if plain.in_proj_bias is not None:
        nn.init.normal_(plain.in_proj_bias)
    packed = copy.deepcopy(plain)
    pack_attention(packed)
    return plain, packed


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_output_and_gradients_are_torchs(bias, causal, dtype, tolerance):
    plain, packed = pair(dtype, bias=bias)
    assert type(packed) is PackedAttention and packed.state_dict().keys() == plain.state_dict().keys()
    mask = torch.full((7, 7), -torch.inf, dtype=dtype).triu(1) if causal else None
    found = []
    for attention in (plain, packed):
        x = torch.randn(4, 7, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()
        output, weights = attention(x, x, x, need_weights=False, attn_mask=mask)
        assert weights is None
        output.square().sum().backward()
        found.append((output, x.grad, *(p.grad for p in attention.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_without_gradients_it_is_torchs():
    plain, packed = pair(torch.float32)
    x = torch.randn(4, 7, WIDTH)
    with torch.no_grad():
        one, other = (attention(x, x, x, need_weights=False)[0] for attention in (plain, packed))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_other_cases_are_torchs():
    plain, packed = pair()
    x, y = torch.randn(2, 5, WIDTH, dtype=torch.float64), torch.randn(2, 6, WIDTH, dtype=torch.float64)
    hidden = torch.zeros(5, 5, dtype=torch.bool).fill_diagonal_(True)
    padded = torch.zeros(2, 5, dtype=torch.bool)
    padded[:, -1] = True
    cases = [
        ((x, y, y), {"need_weights": False}),
        ((x, x, x), {}),
        ((x, x, x), {"need_weights": False, "attn_mask": hidden}),
        ((x, x, x), {"need_weights": False, "key_padding_mask": padded}),
        ((x[0], x[0], x[0]), {"need_weights": False}),
    ]
    for inputs, options in cases:
        one, other = (attention(*inputs, **options) for attention in (plain, packed))
        torch.testing.assert_close(one[0], other[0])
        assert (one[1] is None) == (other[1] is None)


def test_layers_of_another_kind_stay_as_they_are():
    first = nn.MultiheadAttention(WIDTH, HEADS)  # (L, B, D)
    crossed = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, kdim=8, vdim=8)
    extra = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, add_bias_kv=True)
    pack_attention(nn.ModuleList([first, crossed, extra]))
    assert {type(module) for module in (first, crossed, extra)} == {nn.MultiheadAttention}


def test_both_towers_of_the_tiny_backbone_are_packed(backbone_name):
    from reward.backbone.towers import Backbone

    kinds = {type(m) for m in Backbone(backbone_name).modules() if isinstance(m, nn.MultiheadAttention)}
    assert kinds == {PackedAttention}
