"""Contrastive attention: what it decides, what each mode does to the model, and every way to run it."""

import pytest
import torch

from attention_refine.contrastive.capture import AttentionCapture
from attention_refine.contrastive.config import MODES, ContrastiveAttentionConfig
from attention_refine.contrastive.wrapper import ContrastiveAttention
from tests.attention_refine.conftest import (
    CANDIDATES,
    GREEDY,
    IMAGE,
    POST,
    PROMPTS,
    REVIEW,
    SCORES,
    assert_same,
    build_gemma3,
    build_text_tower,
    config,
    gemma3_inputs,
    generated,
    llava_inputs,
    llava_next_inputs,
)


@pytest.fixture(scope="module")
def inputs():
    return llava_inputs(*PROMPTS, seed=1)


@pytest.fixture(scope="module")
def bare(llava, inputs):
    out = llava.generate(**inputs, **SCORES)
    return torch.stack(out.logits, 1), out.sequences


# -- what is decided


def test_the_records_are_the_papers_formulas(llava, llava_eager, inputs):
    """From eager attention, sample by sample, in numpy's terms."""
    with torch.no_grad():
        attentions = llava_eager(**inputs, output_attentions=True).attentions
    with torch.no_grad(), ContrastiveAttention(llava, config()) as ca:
        llava(**inputs)
    assert len({record.chosen_layer for record in ca.records}) > 1, "inputs that always choose one layer show little"
    for sample, record in enumerate(ca.records):
        where = inputs["input_ids"][sample] == IMAGE
        a = [layer[sample, :, -1].mean(0)[where] for layer in attentions]
        a = [layer / layer.sum() for layer in a]
        distances = {i: float((a[i].sqrt() - a[POST].sqrt()).square().sum().sqrt() / 2**0.5) for i in CANDIDATES}
        chosen = max(distances, key=distances.get)
        ia = (a[POST] - a[chosen]).abs()
        assert record.chosen_layer == chosen
        assert record.distances == pytest.approx(distances, abs=1e-6)
        torch.testing.assert_close(record.ia, ia, atol=1e-6, rtol=0)
        assert torch.equal(record.masked, ia < torch.quantile(ia, 0.55))
        assert record.masked_share == pytest.approx(9 / 16)
        torch.testing.assert_close(record.ia_maps[0][0], ia.view(4, 4), atol=1e-6, rtol=0)
        torch.testing.assert_close(record.post_maps[0][0].sum(), torch.tensor(1.0))
        assert torch.equal(record.masked_maps[0][0].flatten(), record.masked)


def test_the_quantile_is_each_images_own(llava):
    inputs = llava_inputs([1, 99, 5, 99, 3], [1, 99, 99, 3])
    with torch.no_grad(), ContrastiveAttention(llava, config(rho=0.5)) as ca:
        llava(**inputs)
    forward = ca.records
    for record in forward:
        assert [int(maps[0].sum()) for maps in record.masked_maps] == [8, 8]
    for options in ({}, {"num_beams": 2}):
        records = generated(llava, inputs, config(rho=0.5), **options)[2]
        assert len(records) == len(forward) * options.get("num_beams", 1)
        for record in records:
            assert [int(maps[0].sum()) for maps in record.masked_maps] == [8, 8]


def test_the_preset_of_the_models_depth_is_the_default(llava):
    assert ContrastiveAttention(llava).config == ContrastiveAttentionConfig.for_depth(6)


def test_a_prompt_without_an_image_is_left_alone(llava):
    texts = llava_inputs([1, 5, 6, 7], [1, 2])
    expected = torch.stack(llava.generate(**texts, **SCORES).logits, 1)
    for mode in MODES:
        logits, _, records = generated(llava, texts, config(mode))
        assert torch.equal(logits, expected)
        assert [(r.chosen_layer, r.distances, r.masked_share, r.ia_maps) for r in records] == [(None, {}, 0.0, [])] * 2
        mixed = llava_inputs([1, 5, 6, 7], [1, 99, 2])
        logits, _, records = generated(llava, mixed, config(mode))
        torch.testing.assert_close(logits[0], expected[0], rtol=0, atol=1e-5)
        assert records[0].chosen_layer is None and records[1].masked_share > 0.5


# -- what each mode does


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options", [{}, {"use_cache": False}, {"num_beams": 3}, {"cache_implementation": "static"}], ids=str
)
def test_lambda_one_changes_no_bit(llava, inputs, mode, options):
    expected = llava.generate(**inputs, **(SCORES | options))
    logits, sequences, records = generated(llava, inputs, config(mode, lam=1), **options)
    assert torch.equal(logits, torch.stack(expected.logits, 1))
    assert torch.equal(sequences, expected.sequences)
    assert records[0].masked_share > 0.5


@torch.no_grad()
def keys_values_by_layer(model, inputs, settings=None):
    if settings is None:
        cache = model(**inputs).past_key_values
    else:
        with ContrastiveAttention(model, settings):
            cache = model(**inputs).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


@pytest.mark.parametrize("lam", [0.5, 0.1])
def test_the_trap_residual_scaling_acts_one_layer_later(llava, inputs, lam):
    """RMSNorm divides the scale out: the review layer's own keys and values stay, up to its epsilon."""
    plain = keys_values_by_layer(llava, inputs)
    scaled = keys_values_by_layer(llava, inputs, config("residual", lam=lam))
    for layer in range(REVIEW):
        assert torch.equal(plain[layer][0], scaled[layer][0])
    at, after = (max(float((a - b).abs().max()) for a, b in zip(plain[i], scaled[i], strict=True)) for i in (4, 5))
    assert at < 0.02 * after
    assert after > 0.01


def test_post_norm_scales_the_review_layers_keys_and_values(llava, inputs):
    with torch.no_grad(), ContrastiveAttention(llava, config("post_norm", lam=0.25)) as ca:
        llava(**inputs)
    plain = keys_values_by_layer(llava, inputs)[REVIEW]
    scaled = keys_values_by_layer(llava, inputs, config("post_norm", lam=0.25))[REVIEW]
    for sample, record in enumerate(ca.records):
        scale = torch.ones(inputs["input_ids"].shape[1])
        scale[inputs["input_ids"][sample] == IMAGE] = torch.where(record.masked, 0.25, 1.0)
        for before, after in zip(plain, scaled, strict=True):
            torch.testing.assert_close(after[sample], before[sample] * scale[:, None], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lam", [0.5, 0.01, 0.0])
def test_attention_bias_is_a_true_down_weighting_at_every_step(llava_eager, inputs, lam):
    """At the review layer the weights of the chosen keys are λ times what they were, relative to the others'."""
    first = GREEDY | {"max_new_tokens": 3, "return_dict_in_generate": True, "output_attentions": True}
    plain = llava_eager.generate(**inputs, **first)
    forced = {"prefix_allowed_tokens_fn": lambda i, ids: [int(plain.sequences[i, len(ids)])]}
    with ContrastiveAttention(llava_eager, config("attention_bias", lam=lam)) as ca:
        scaled = llava_eager.generate(**inputs, **first, **forced)
    assert torch.equal(plain.sequences, scaled.sequences)
    for before, after in zip(plain.attentions, scaled.attentions, strict=True):
        for sample, record in enumerate(ca.records):
            weights = before[REVIEW][sample, :, -1].clone()
            image = torch.nonzero(inputs["input_ids"][sample] == IMAGE).flatten()
            weights[:, image[record.masked]] *= lam
            weights /= weights.sum(-1, keepdim=True)
            torch.testing.assert_close(after[REVIEW][sample, :, -1], weights, rtol=0, atol=1e-6)
            if lam == 0:
                assert (after[REVIEW][sample, :, -1][:, image[record.masked]] == 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_lambda_zero_gives_finite_numbers(llava, mode):
    """An image at the very start: every key of its first row may be masked."""
    inputs = llava_inputs([99, 3, 4], [5, 99, 3, 4])
    logits, _, _ = generated(llava, inputs, config(mode, lam=0, rho=0.99))
    assert torch.isfinite(logits).all()


def test_the_modes_differ_from_the_bare_model_and_from_each_other(llava, inputs, bare):
    results = [bare[0], *(generated(llava, inputs, config(mode))[0] for mode in MODES)]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert float((one - other).abs().max()) > 1e-3


# -- every way to run it


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{"use_cache": False}, {"cache_implementation": "static"}], ids=str)
def test_the_cache_makes_no_difference(llava, inputs, mode, options):
    assert_same(generated(llava, inputs, config(mode)), generated(llava, inputs, config(mode), **options))


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_mixed_lengths_is_one_by_one(llava, inputs, mode):
    together = generated(llava, inputs, config(mode))
    for sample, prompt in enumerate(PROMPTS):
        alone = llava_inputs(prompt) | {"pixel_values": inputs["pixel_values"][sample : sample + 1]}
        for mask in (alone["attention_mask"], None):
            logits, sequences, records = generated(llava, alone | {"attention_mask": mask}, config(mode))
            torch.testing.assert_close(together[0][sample], logits[0], rtol=0, atol=2e-5)
            assert torch.equal(together[1][sample, -6:], sequences[0, -6:])
            assert records[0].chosen_layer == together[2][sample].chosen_layer
            assert torch.equal(records[0].masked, together[2][sample].masked)


@pytest.mark.parametrize("mode", MODES)
def test_beam_search(llava, inputs, mode):
    beams = {"num_beams": 3, "length_penalty": 0.5}
    cached = generated(llava, inputs, config(mode), **beams)
    assert torch.equal(cached[1], generated(llava, inputs, config(mode), **beams, use_cache=False)[1])
    assert len(cached[2]) == 9
    for sample in range(3):
        first, *others = cached[2][3 * sample : 3 * sample + 3]
        assert all(torch.equal(first.masked, other.masked) for other in others)
    one = generated(llava, inputs, config(mode))[2]
    assert [record.chosen_layer for record in one] == [record.chosen_layer for record in cached[2][::3]]


@pytest.mark.parametrize("mode", MODES)
def test_a_decoded_image_token_is_no_image(llava, inputs, mode):
    """The model writes the placeholder's id as its second word: it is a word like any other."""
    length = inputs["input_ids"].shape[1]

    def force(_, ids):
        return [IMAGE] if len(ids) == length + 1 else [7]

    options = {"suppress_tokens": None, "prefix_allowed_tokens_fn": force, "output_scores": True}
    logits, sequences, records = generated(llava, inputs, config(mode), **options)
    assert (sequences[:, length + 1] == IMAGE).all()
    assert [len(record.ia) for record in records] == [16, 16, 16]
    with torch.no_grad(), ContrastiveAttention(llava, config(mode)):
        mask = inputs["attention_mask"]
        cache = llava(**inputs, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).past_key_values
        for step, token in enumerate([7, IMAGE, 7, 7, 7]):
            mask = torch.cat([mask, mask.new_ones(3, 1)], 1)
            positions = (mask.sum(1, keepdim=True) - 1).long()
            step_logits = llava(
                input_ids=torch.full((3, 1), token), attention_mask=mask, position_ids=positions, past_key_values=cache
            ).logits[:, -1]
            torch.testing.assert_close(step_logits, logits[:, step + 1], rtol=0, atol=2e-5)


def test_two_conversations_in_turns_keep_their_own_masks(llava):
    """The decision belongs to the cache, not to the last prompt seen."""
    first, second = llava_inputs([1, 99, 3]), llava_inputs([1, 6, 99, 4, 5], seed=1)
    token = torch.tensor([[7]])
    settings = config("attention_bias", lam=0.01)
    with torch.no_grad(), ContrastiveAttention(llava, settings):
        caches = [llava(**inputs).past_key_values for inputs in (first, second)]
        mixed = [llava(input_ids=token, past_key_values=cache).logits for cache in caches]
        for inputs, expected in zip((first, second), mixed, strict=True):
            cache = llava(**inputs).past_key_values
            torch.testing.assert_close(llava(input_ids=token, past_key_values=cache).logits, expected)


def test_a_decode_step_of_other_rows_is_refused(llava, inputs):
    with torch.no_grad(), ContrastiveAttention(llava, config("attention_bias")):
        cache = llava(**inputs).past_key_values
        cache.batch_select_indices(torch.tensor([0]))
        with pytest.raises(ValueError, match="the 3 samples of the prefill, got 1"):
            llava(input_ids=torch.tensor([[3]]), past_key_values=cache)


def test_without_a_cache_a_new_prompt_that_begins_alike_is_a_new_prompt(llava):
    """Another picture, or the same with another question one token longer, is no decode step."""
    short, longer = llava_inputs([1, 99, 3]), llava_inputs([1, 99, 3, 8], seed=1)
    with torch.no_grad(), ContrastiveAttention(llava, config()) as ca:
        expected = llava(**longer, use_cache=False).logits
        llava(**short, use_cache=False)
        assert torch.equal(llava(**longer, use_cache=False).logits, expected)
        assert len(ca.records[0].ia) == 16


@pytest.mark.parametrize("mode", MODES)
def test_llava_next(llava_next, mode):
    inputs = llava_next_inputs([1, 99, 7], [1, 99, 99, 4], sizes=[(20, 31), (30, 18), (16, 31)])
    cached = generated(llava_next, inputs, config(mode))
    assert_same(cached, generated(llava_next, inputs, config(mode), use_cache=False))
    for record, images in zip(cached[2], (1, 2), strict=True):
        assert [len(maps) for maps in record.ia_maps] == [2] * images
        assert [maps[0].shape for maps in record.ia_maps] == [(4, 4)] * images
        assert sum(m.numel() for maps in record.ia_maps for m in maps) == len(record.ia)
    # 20 x 31 pixels on 2 x 2 tiles of 4 x 4 tokens: 8 tokens wide, a row of padding cut above and below.
    assert cached[2][0].ia_maps[0][1].shape == (6, 8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("review", [4, 5])
def test_gemma3_with_its_sliding_windows(mode, review):
    if mode == "residual" and review == 5:
        review = 3
    model, inputs = build_gemma3(), gemma3_inputs()
    settings = config(mode, post_layer=2, candidate_layers=(0, 1), review_layer=review, lam=0.01)
    cached = generated(model, inputs, settings, max_new_tokens=12)
    assert_same(cached, generated(model, inputs, settings, max_new_tokens=12, use_cache=False))
    assert_same(cached, generated(model, inputs, settings, max_new_tokens=12, cache_implementation="static"))
    assert [record.ia_maps[0][0].shape for record in cached[2]] == [(2, 2), (2, 2)]
    plain = model.generate(**inputs, **(SCORES | {"max_new_tokens": 12}))
    assert float((torch.stack(plain.logits, 1) - cached[0]).abs().max()) > 1e-4


# -- nothing left behind, and what is refused


@pytest.mark.parametrize("mode", MODES)
def test_the_bare_model_is_back_after_an_exception_and_after_use(llava, inputs, bare, mode):
    def fail(*_):
        raise ArithmeticError

    hook = llava.lm_head.register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError), ContrastiveAttention(llava, config(mode)) as ca:
        try:
            llava.generate(**inputs, **SCORES)
        finally:
            hook.remove()
    assert len(ca.records) == 3
    again = llava.generate(**inputs, **SCORES)
    assert torch.equal(torch.stack(again.logits, 1), bare[0])
    review = llava.model.language_model.layers[REVIEW]
    assert not review._forward_pre_hooks and not review.self_attn._forward_pre_hooks


def test_the_permanent_form(llava, inputs, bare):
    ca = ContrastiveAttention(llava, config()).attach()
    try:
        first = torch.stack(llava.generate(**inputs, **SCORES).logits, 1)
        assert torch.equal(torch.stack(llava.generate(**inputs, **SCORES).logits, 1), first)
    finally:
        ca.detach()
    assert torch.equal(first, generated(llava, inputs, config())[0])
    assert torch.equal(torch.stack(llava.generate(**inputs, **SCORES).logits, 1), bare[0])


def test_one_model_at_a_time(llava):
    with AttentionCapture(llava), pytest.raises(RuntimeError, match="not captured yet"):
        ContrastiveAttention(llava, config()).attach()


def test_refused_at_the_start(llava):
    with pytest.raises(ValueError, match="below the model's 6 layers, got 29"):
        ContrastiveAttention(llava, ContrastiveAttentionConfig())
    with pytest.raises(ValueError, match="below 5, the last layer, in residual mode"):
        ContrastiveAttention(llava, config(review_layer=5))
    with pytest.raises(ValueError, match="Expected an image token id, got none in the config of LlamaForCausalLM"):
        ContrastiveAttention(build_text_tower("llama"), config())


def test_a_given_image_token_wins(llava, inputs):
    with torch.no_grad(), ContrastiveAttention(llava, config(image_token_id=9)) as ca:
        llava(**llava_inputs([1, 9, 9, 9, 3]))
    assert len(ca.records[0].ia) == 3


def test_records_are_empty_before_the_first_prompt(llava):
    assert ContrastiveAttention(llava, config()).records == []
