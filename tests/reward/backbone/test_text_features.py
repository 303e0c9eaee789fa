"""Text features without what comes after a prompt's end equal open_clip's own, also in their gradients."""

import open_clip
import pytest
import torch
from accelerate import cpu_offload

from reward.backbone.attention import pack_attention
from reward.backbone.text_features import TextTower, encode_text, text_tower

CONTEXT, VOCABULARY = 77, 50
START, END = VOCABULARY - 2, VOCABULARY - 1
PAD = 0
TOWERS = [{}, {"pool_type": "eos", "eos_id": END}, {"proj_bias": True}, {"proj_type": "none", "width": 8}]


def tower(context=CONTEXT, **text) -> open_clip.CLIP:
    torch.manual_seed(0)
    vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": context, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 2} | text
    model = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text).double().eval()
    torch.nn.init.normal_(model.positional_embedding)
    pack_attention(model)
    return model


def prompts(lengths, seed=0, context=CONTEXT):
    """Rows of START, words, END and padding, `lengths` tokens long before the padding."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), context), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(1, START, (length,), generator=rng)
        row[0], row[length - 1] = START, END
    return rows


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("text", TOWERS)
def test_features_are_those_of_the_whole_context(text, seed):
    model = tower(**text)
    lengths = torch.randint(2, CONTEXT + 1, (9,), generator=torch.Generator().manual_seed(seed)).tolist()
    tokens = prompts([2, CONTEXT, *lengths], seed)
    assert text_tower(model) is TextTower.CAUSAL
    torch.testing.assert_close(encode_text(model, tokens), model.encode_text(tokens), rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_the_whole_context():
    tokens, grads = prompts([5, 30, 9, 77]), []
    for encode in (encode_text, open_clip.CLIP.encode_text):
        model = tower()
        encode(model, tokens).square().sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-8, atol=1e-10)


def test_short_prompts_cost_their_own_length():
    model, seen = tower(), []
    first = model.transformer.resblocks[0]
    first.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[:2])))
    encode_text(model, prompts([3, 4, 5, 8, 9, 74]))
    assert seen == [(2, 4), (2, 8), (1, 12), (1, 76)]
    encode_text(model, prompts([77]))
    assert seen[-1] == (1, CONTEXT)


def test_the_last_block_sees_one_token(monkeypatch):
    model, seen = tower(), []
    gelu = torch.nn.functional.gelu
    monkeypatch.setattr(torch.nn.GELU, "forward", lambda self, x: [seen.append(tuple(x.shape)), gelu(x)][1])
    encode_text(model, prompts([5, 6, 30]))
    assert seen == [(2, 8, 64), (2, 64), (1, 32, 64), (1, 64)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("context", [7, 16, CONTEXT])
def test_a_tower_that_reads_what_follows_and_a_short_one_end_at_one_token(context, seed):
    model = tower(context=context)
    if context == CONTEXT:
        model.attn_mask = torch.randn(context, context, dtype=torch.float64)
    lengths = torch.randint(2, context + 1, (5,), generator=torch.Generator().manual_seed(seed)).tolist()
    tokens = prompts([2, context, *lengths], seed, context)
    assert text_tower(model) is TextTower.ONE_TOKEN
    torch.testing.assert_close(encode_text(model, tokens), model.encode_text(tokens), rtol=1e-10, atol=1e-12)


def test_autocast():
    model, tokens = tower().float(), prompts([2, 9, 30])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encode_text(model, tokens), model.encode_text(tokens), rtol=5e-2, atol=5e-2)


def test_no_mask_at_all():
    model = tower(no_causal_mask=True)
    assert model.attn_mask is None and text_tower(model) is TextTower.ONE_TOKEN
    tokens = prompts([2, 9, CONTEXT])
    torch.testing.assert_close(encode_text(model, tokens), model.encode_text(tokens), rtol=1e-10, atol=1e-12)


def test_a_tower_that_is_looked_at_runs_whole():
    model, seen = tower(), []
    model.transformer.resblocks[-1].mlp.register_forward_hook(lambda module, inputs, out: seen.append(out.shape[:2]))
    encode_text(model, prompts([5, 30]))
    assert seen == [(2, CONTEXT)]


def test_a_tower_that_changed_after_it_was_asked_about():
    tokens = prompts([5, 30])
    for change in ("forward", "offloaded", "block"):
        model = tower().float()
        kind, whole = text_tower(model), model.encode_text(tokens)
        last = model.transformer.resblocks[-1]
        if change == "forward":
            last.forward = lambda x, **options: x
        elif change == "offloaded":
            cpu_offload(model.transformer, "cpu")
        else:
            model.transformer.resblocks[-1] = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
            model.transformer.resblocks[-1].forward = lambda x, **options: x
        with torch.no_grad():
            found = encode_text(model, tokens, kind)
            torch.testing.assert_close(found, model.encode_text(tokens))
        assert torch.allclose(found, whole) == (change == "offloaded")


@pytest.mark.parametrize("text", [{"pool_type": "last"}, {"pool_type": "first"}, {"pool_type": "none"}])
def test_other_pooling_is_left_alone(text):
    model = tower(**text)
    assert text_tower(model) is TextTower.WHOLE
    tokens = prompts([4, 20])
    assert torch.equal(encode_text(model, tokens), model.encode_text(tokens))


def test_unpacked_attention_is_left_alone():
    model = tower()
    model.transformer.resblocks[-1].attn.__class__ = torch.nn.MultiheadAttention
    assert text_tower(model) is TextTower.WHOLE
