"""Text features without what comes after a prompt's end equal open_clip's own, also in their gradients."""

import open_clip
import pytest
import torch

from reward.text_features import encode_text, stops_at_the_end

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
    assert stops_at_the_end(model)
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
    model.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[:2])))
    encode_text(model, prompts([3, 4, 5, 8, 9, 74]))
    assert seen == [(2, 4), (2, 8), (1, 12), (1, 76)]
    encode_text(model, prompts([77]))
    assert seen[-1] == (1, CONTEXT)


def test_a_tower_that_reads_what_follows_is_left_alone():
    model = tower()
    model.attn_mask = torch.zeros_like(model.attn_mask)
    tokens = prompts([4, 20])
    assert not stops_at_the_end(model)
    torch.testing.assert_close(encode_text(model, tokens), model.encode_text(tokens))


def test_a_short_context_is_left_alone():
    assert not stops_at_the_end(tower(context=16))
