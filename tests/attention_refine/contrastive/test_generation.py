"""The two ways into transformers' own `generate`: a callable and a folder."""

from pathlib import Path

import pytest
import torch

import attention_refine
from attention_refine import ContrastiveAttention, ContrastiveAttentionConfig
from tests.attention_refine.conftest import IMAGE, build_llava, llava_inputs

OPTIONS = {"max_new_tokens": 6, "suppress_tokens": [IMAGE], "return_dict_in_generate": True, "output_logits": True}
CONFIG = ContrastiveAttentionConfig.for_depth(6, rho=0.6, lam=0.01, mode="attention_bias")


@pytest.fixture(scope="module")
def inputs():
    return llava_inputs([1, 5, 99, 7, 8], [1, 99, 3])


def logits(out):
    return torch.stack(out.logits, 1)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True}, {"use_cache": False}], ids=str)
def test_the_callable_is_the_context_manager(llava, inputs, options):
    torch.manual_seed(0)
    with ContrastiveAttention(llava, CONFIG):
        expected = llava.generate(**inputs, **OPTIONS, **options)
    torch.manual_seed(0)
    called = llava.generate(
        **inputs, **OPTIONS, **options, custom_generate=attention_refine.generate, contrastive_attention=CONFIG
    )
    assert torch.equal(called.sequences, expected.sequences) and torch.equal(logits(called), logits(expected))
    assert not torch.equal(logits(called)[:, 0], logits(llava.generate(**inputs, **OPTIONS, **options))[:, 0])


def test_the_records_of_a_call(llava, inputs):
    ca = ContrastiveAttention(llava, CONFIG)
    llava.generate(**inputs, **OPTIONS, custom_generate=attention_refine.generate, contrastive_attention=ca)
    assert [record.mode for record in ca.records] == ["attention_bias"] * 2
    assert llava.model.language_model.config._attn_implementation == "sdpa"


def test_the_preset_is_the_default(llava, inputs):
    with ContrastiveAttention(llava):
        expected = llava.generate(**inputs, **OPTIONS)
    called = llava.generate(**inputs, **OPTIONS, custom_generate=attention_refine.generate)
    assert torch.equal(logits(called), logits(expected))


def test_refused(llava, inputs):
    with pytest.raises(ValueError, match="prefill_chunk_size=8"):
        llava.generate(**inputs, custom_generate=attention_refine.generate, prefill_chunk_size=8, max_new_tokens=2)
    with pytest.raises(ValueError, match="greedy decoding, sampling or beam search, got assisted_generation"):
        llava.generate(
            **inputs, custom_generate=attention_refine.generate, prompt_lookup_num_tokens=2, max_new_tokens=2
        )


def test_the_folder(inputs, tmp_path, monkeypatch):
    """transformers copies a recipe into its own module cache, which is moved out of the way here."""
    import transformers.dynamic_module_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
    model = build_llava()
    with ContrastiveAttention(model, CONFIG):
        expected = model.generate(**inputs, **OPTIONS)
    folder = str(Path(attention_refine.__file__).parent)
    fields = {"rho": 0.6, "lam": 0.01, "mode": "attention_bias"}
    options = OPTIONS | {"custom_generate": folder, "trust_remote_code": True, "contrastive_attention": fields}
    assert torch.equal(logits(model.generate(**inputs, **options)), logits(expected))
