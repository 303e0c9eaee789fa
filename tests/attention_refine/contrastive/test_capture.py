"""The captured rows against eager's own, the places where they go wrong, and what is left behind: nothing."""

import copy
import gc
import weakref

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, StaticCache

from attention_refine.contrastive.capture import AttentionCapture, add_key_bias, last_row
from tests.attention_refine.conftest import (
    build_llava,
    build_llava_next,
    build_text_tower,
    left_padded,
    llava_inputs,
    llava_next_inputs,
)  # fmt: skip

PROMPTS = ([1, 5, 99, 7, 8], [1, 99, 3], [1, 2, 3, 4, 99, 9, 9, 8, 7, 6])
TEXTS = [[1, 5, 9, 7, 8] * 4, [1, 9, 3], [1, 2, 3, 4, 98, 9, 9, 8, 7, 6]]


@torch.no_grad()
def eager_rows(model, inputs):
    """Per layer (B, S): the last token's attention, mean over heads, as output_attentions gives it."""
    return [layer[:, :, -1].mean(1) for layer in model(**inputs, output_attentions=True).attentions]


@torch.no_grad()
def captured(model, inputs, **options):
    with AttentionCapture(model, **options) as capture:
        model(**inputs)
    return capture


def assert_rows_equal(rows, expected):
    assert sorted(rows) == list(range(len(expected)))
    for layer, row in enumerate(expected):
        torch.testing.assert_close(rows[layer], row, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def inputs():
    return llava_inputs(*PROMPTS)


def test_llavas_rows_are_eagers(llava, llava_eager, inputs):
    rows = captured(llava, inputs).rows
    assert_rows_equal(rows, eager_rows(llava_eager, inputs))
    assert max(row.max() for row in rows.values()) > 0.2, "an attention so flat shows nothing"


def test_llavas_rows_are_eagers_without_a_mask(llava, llava_eager):
    inputs = llava_inputs([1, 5, 99, 7, 8]) | {"attention_mask": None}
    assert_rows_equal(captured(llava, inputs).rows, eager_rows(llava_eager, inputs))


def test_llava_nexts_rows_are_eagers(llava_next):
    inputs = llava_next_inputs([1, 99, 7], [1, 5, 6, 99, 4], sizes=[(20, 31), (30, 18)])
    assert_rows_equal(captured(llava_next, inputs).rows, eager_rows(build_llava_next("eager"), inputs))


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "qwen2_5_vl", "qwen3_vl"])
def test_a_text_towers_rows_are_eagers(name):
    model, eager = build_text_tower(name), build_text_tower(name, "eager")
    padded = left_padded(TEXTS)
    assert_rows_equal(captured(model, padded).rows, eager_rows(eager, padded))
    bare = {"input_ids": padded["input_ids"]}
    assert_rows_equal(captured(model, bare).rows, eager_rows(eager, bare))


def test_an_eager_model_is_captured_as_it_is(llava_eager, inputs):
    with torch.no_grad(), AttentionCapture(llava_eager) as capture:
        attentions = llava_eager(**inputs, output_attentions=True).attentions
    assert_rows_equal(capture.rows, [layer[:, :, -1].mean(1) for layer in attentions])


def test_a_batch_of_mixed_lengths_is_one_by_one(llava, inputs):
    rows = captured(llava, inputs).rows
    for sample, prompt in enumerate(PROMPTS):
        alone = llava_inputs(prompt) | {"pixel_values": inputs["pixel_values"][sample : sample + 1]}
        for layer, row in captured(llava, alone).rows.items():
            torch.testing.assert_close(rows[layer][sample, -row.shape[1] :], row[0], atol=1e-6, rtol=0)
            assert (rows[layer][sample, : -row.shape[1]] == 0).all()


@pytest.mark.parametrize("padded", [True, False])
def test_a_static_caches_empty_keys_get_no_attention(llava, inputs, padded):
    given = inputs if padded else llava_inputs(PROMPTS[0]) | {"attention_mask": None}
    expected = captured(llava, given).rows
    with AttentionCapture(llava) as capture:
        llava.generate(**given, max_new_tokens=3, do_sample=False, cache_implementation="static")
        assert_rows_equal(capture.rows, [expected[layer] for layer in range(6)])
        cache = StaticCache(config=llava.config.get_text_config(), max_cache_len=40)
        with torch.no_grad():
            llava(**given, past_key_values=cache)
    assert_rows_equal(capture.rows, [expected[layer] for layer in range(6)])


def test_the_prompt_tells_its_image_tokens(llava, inputs):
    prompt = captured(llava, inputs, layers=()).prompt
    assert torch.equal(prompt.is_image, inputs["input_ids"] == 99)
    assert torch.equal(prompt.valid, inputs["attention_mask"].bool())


def test_newlines_of_llava_next_are_no_image_tokens(llava_next):
    inputs = llava_next_inputs([1, 99, 7], [1, 99, 99, 4], sizes=[(20, 31), (30, 18), (16, 31)])
    newline = llava_next.model.image_newline
    with torch.no_grad():
        features = llava_next.get_image_features(inputs["pixel_values"], inputs["image_sizes"]).pooler_output
    expected = [(image != newline).any(-1) for image in features]
    with AttentionCapture(llava_next, layers=()) as capture:
        llava_next.generate(**inputs, max_new_tokens=1, do_sample=False)
    index = capture.prompt.image_index
    for (sample, image), feature in zip([(0, 0), (1, 0), (1, 1)], expected, strict=True):
        assert len(capture.prompt.positions(sample, image)) == int(feature.sum()) < len(feature)
    assert index.max() == 1
    forward = captured(llava_next, inputs, layers=()).prompt
    assert torch.equal(forward.image_index, index), "a plain forward, which passes input_ids on by position"


def test_only_the_chosen_layers_are_kept(llava, inputs):
    assert sorted(captured(llava, inputs, layers=(1, 4)).rows) == [1, 4]


def test_decode_steps_are_not_recorded(llava, inputs):
    expected = captured(llava, inputs).rows
    with AttentionCapture(llava) as capture:
        llava.generate(**inputs, max_new_tokens=5, do_sample=False)
    for layer, row in expected.items():
        torch.testing.assert_close(capture.rows[layer], row, atol=1e-6, rtol=0)


def state_of(model):
    hooks = [
        len(getattr(module, name))
        for module in model.modules()
        for name in vars(module)
        if name.endswith("_hooks") or name.endswith("_hooks_with_kwargs") or name.endswith("_hooks_always_called")
    ]
    names = [set(vars(module)) for module in model.modules()]
    implementations = [
        getattr(module.config, "_attn_implementation", None) for module in model.modules() if hasattr(module, "config")
    ]
    return (
        hooks, names, implementations, dict(AttentionInterface._global_mapping),
        dict(AttentionMaskInterface._global_mapping),
    )  # fmt: skip


def test_nothing_is_left_behind(llava, inputs):
    with torch.no_grad():
        llava(**inputs)
    before = state_of(llava)
    with AttentionCapture(llava) as capture:
        assert state_of(llava) != before
        llava.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert state_of(llava) == before
    with pytest.raises(KeyError), AttentionCapture(llava):
        raise KeyError
    assert state_of(llava) == before
    gone = weakref.ref(capture)
    del capture
    gc.collect()
    assert gone() is None


def test_an_exception_in_a_layer_leaves_nothing_behind(llava, inputs):
    def fail(*_):
        raise ArithmeticError

    with torch.no_grad():
        llava(**inputs)
    before = state_of(llava)
    with pytest.raises(ArithmeticError), AttentionCapture(llava) as capture:
        hook = capture.decoder.layers[3].mlp.register_forward_pre_hook(fail)
        try:
            llava.generate(**inputs, max_new_tokens=2)
        finally:
            hook.remove()
    assert state_of(llava) == before
    assert capture.step is None
    assert sorted(captured(llava, inputs).rows) == list(range(6))


def test_two_models_at_once_do_not_mix(llava, inputs):
    other = build_llava(num_hidden_layers=4)
    expected = captured(llava, inputs).rows, captured(other, inputs).rows
    with torch.no_grad(), AttentionCapture(llava) as first, AttentionCapture(other) as second:
        llava(**inputs)
        other(**inputs)
    for capture, rows in zip((first, second), expected, strict=True):
        assert sorted(capture.rows) == sorted(rows)
        assert all(torch.equal(capture.rows[layer], row) for layer, row in rows.items())


def test_two_models_of_one_config_object_do_not_mix(inputs):
    model = build_llava()
    twin = copy.deepcopy(model)
    with torch.no_grad(), AttentionCapture(model) as capture:
        twin(**inputs)
        assert capture.rows == {}


def test_the_permanent_form(llava, inputs):
    expected = captured(llava, inputs).rows
    capture = AttentionCapture(llava).attach()
    try:
        with torch.no_grad():
            llava(**inputs)
            llava(**inputs)
        assert torch.equal(capture.rows[3], expected[3])
        with pytest.raises(RuntimeError, match="not captured yet"):
            AttentionCapture(llava).attach()
        with pytest.raises(RuntimeError, match="not captured yet"):
            capture.attach()
    finally:
        capture.detach()
    capture.detach()
    assert llava.model.language_model.config._attn_implementation == "sdpa"


def test_the_images_are_not_kept_in_memory(llava):
    inputs = llava_inputs([1, 99, 3])
    with AttentionCapture(llava):
        llava.generate(**inputs, max_new_tokens=2)
        gone = weakref.ref(inputs["pixel_values"])
        del inputs
        gc.collect()
        assert gone() is None


def test_refused_at_the_start(llava):
    with pytest.raises(ValueError, match=r"layers within 0 to 5 \(the model has 6\), got \[6\]"):
        AttentionCapture(llava, layers=(0, 6))
    with pytest.raises(TypeError, match="got Linear"):
        AttentionCapture(torch.nn.Linear(1, 1))
    model = build_llava()
    model.model.language_model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ValueError, match="sdpa or eager attention, got 'flash_attention_2'"):
        AttentionCapture(model).attach()


def test_refused_while_running(llava, inputs):
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    right = inputs | {"input_ids": ids.flip(1), "attention_mask": mask.flip(1)}
    hole = mask.clone()
    hole[0, -2] = 0
    inner = llava.model
    # a model of its own: transformers 5.4 keeps a static cache that was never filled, and fails on it the next time
    with torch.no_grad(), AttentionCapture(own := build_llava()):
        with pytest.raises(ValueError, match="padding only on the left"):
            own.generate(**right, max_new_tokens=2, cache_implementation="static")
    with torch.no_grad(), AttentionCapture(llava):
        with pytest.raises(ValueError, match="padding only on the left"):
            llava(**right)
        with pytest.raises(ValueError, match="padding only on the left"):
            llava.generate(**right, max_new_tokens=2)
        with pytest.raises(ValueError, match="padding only on the left"):
            llava(**inputs | {"attention_mask": hole})
        for chunk in (8, 20, 24, 25):
            with pytest.raises(ValueError, match=f"prefilled at once, got prefill_chunk_size={chunk}"):
                llava.generate(**inputs, max_new_tokens=2, prefill_chunk_size=chunk)
        cache = llava(**inputs).past_key_values
        with pytest.raises(ValueError, match="one token per decode step, got 2 with a cache of 25"):
            llava(input_ids=ids[:, -2:], past_key_values=cache)
        with pytest.raises(ValueError, match="got only inputs_embeds"):
            llava(inputs_embeds=llava.get_input_embeddings()(ids), attention_mask=mask)
        with pytest.raises(ValueError, match="got only inputs_embeds"):
            llava.generate(inputs_embeds=llava.get_input_embeddings()(ids), attention_mask=mask, max_new_tokens=2)
        with pytest.raises(RuntimeError, match="got a call of its decoder"):
            inner(**inputs)


def test_a_cache_filled_outside_is_refused(llava, inputs):
    with torch.no_grad():
        cache = llava(**inputs).past_key_values
    with torch.no_grad(), AttentionCapture(llava), pytest.raises(ValueError, match="filled outside"):
        llava(input_ids=torch.tensor([[3]] * 3), past_key_values=cache)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
def test_last_row_is_the_last_row_of_the_whole_attention(heads, kind, dtype):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, heads[0], 7, 8, generator=generator).to(dtype)
    key = torch.randn(2, heads[1], 9, 8, generator=generator).to(dtype)
    shown = torch.ones(7, 9, dtype=torch.bool).tril()[None, None].repeat(2, 1, 1, 1)
    shown[0, :, :, :2] = False
    wide = key.repeat_interleave(heads[0] // heads[1], 1)
    logits = query @ wide.transpose(-1, -2) * 0.3
    reference = shown if kind != "none" else torch.ones(7, 9, dtype=torch.bool).tril()[None, None]
    expected = logits.float().masked_fill(~reference, -torch.inf).softmax(-1)[:, :, -1, :7].mean(1)
    additive = torch.zeros(shown.shape, dtype=dtype).masked_fill(~shown, torch.finfo(dtype).min)
    mask = {"none": None, "bool": shown, "additive": additive}[kind]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(last_row(query, key, mask, 0.3, None), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
def test_a_key_bias_scales_the_weight_of_its_keys(kind):
    """After adding log λ to a key's logit its attention is λ times what it was, relative to the other keys."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 4, 6, 8, generator=generator)
    query = query[:, :, -2:]
    bias = torch.zeros(1, 3)
    bias[0, 1] = torch.log(torch.tensor(0.25))
    causal = torch.ones(6, 6, dtype=torch.bool).tril()[None, None, -2:]
    additive = torch.zeros(causal.shape).masked_fill(~causal, torch.finfo(torch.float32).min)
    mask = add_key_bias(bias, query, key, {"none": None, "bool": causal, "additive": additive}[kind], total=6)
    logits = query @ key.transpose(-1, -2)
    weights = (logits + mask).softmax(-1)
    bare = logits.masked_fill(~causal, -torch.inf).softmax(-1) * torch.tensor([1, 0.25, 1, 1, 1, 1])
    torch.testing.assert_close(weights, bare / bare.sum(-1, keepdim=True))


def test_a_key_bias_finds_its_keys_in_a_sliding_window():
    query, key = torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 4, 8)
    bias = torch.tensor([[-1.0, -2.0, -3.0, -4.0, -5.0]])
    assert add_key_bias(bias, query, key, None, total=7).tolist() == [[[[-4.0, -5.0, 0.0, 0.0]]]]
    assert add_key_bias(bias, query, key, None, total=20).tolist() == [[[[0.0, 0.0, 0.0, 0.0]]]]
    wide = torch.zeros(1, 2, 9, 8)
    shown = (torch.arange(9) < 7)[None, None, None]
    static = add_key_bias(bias, query, wide, shown, total=7)[0, 0, 0]
    assert static[:7].tolist() == [-1.0, -2.0, -3.0, -4.0, -5.0, 0.0, 0.0] and (static[7:] < -1e30).all()
