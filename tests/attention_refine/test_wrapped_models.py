"""Contrastive attention on a model that was compiled, has an adapter, or computes in half precision."""

import pytest
import torch

from attention_refine.contrastive.config import MODES
from attention_refine.contrastive.wrapper import ContrastiveAttention
from tests.attention_refine.conftest import PROMPTS, assert_same, build_llava, config, generated, llava_inputs


@pytest.fixture(scope="module")
def inputs():
    return llava_inputs(*PROMPTS, seed=1)


def test_a_compiled_model(inputs):
    """Compiled before the wrapper came, whose hooks the traced code does not know."""
    settings = config("post_norm", post_layer=1, candidate_layers=(0,), review_layer=2)
    model = build_llava(num_hidden_layers=3)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        try:
            plain = compiled(**inputs).logits
        except NameError as error:
            pytest.skip(f"torch {torch.__version__} cannot compile the bare model of this transformers: {error}")
        with ContrastiveAttention(model, settings) as ca:
            expected, records = model(**inputs).logits, ca.records
        with ContrastiveAttention(compiled, settings) as ca:
            torch.testing.assert_close(compiled(**inputs).logits, expected)
        assert torch.equal(ca.records[0].masked, records[0].masked)
        assert float((expected - plain).abs().max()) > 1e-3
    torch._dynamo.reset()


def test_a_peft_model(inputs, llava):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(build_llava(), LoraConfig(target_modules=["q_proj"], r=2))
    expected = generated(llava, inputs, config())
    assert_same(generated(model, inputs, config()), expected, atol=1e-6)


def test_half_precision():
    model = build_llava().to(torch.bfloat16)
    inputs = llava_inputs(*PROMPTS)
    inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    for mode in MODES:
        for lam in (0.0, 0.1):
            logits, _, records = generated(model, inputs, config(mode, lam=lam))
            assert torch.isfinite(logits).all() and records[0].ia.dtype == torch.float32
