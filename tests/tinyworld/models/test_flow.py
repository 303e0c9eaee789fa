"""The tiny flow-matching model before its training: its shortcuts give what the pipeline itself gives."""

import copy

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from tinyworld import weights_path
from tinyworld.models.flow import (
    ZeroRowAttention,
    build_flow_pipeline,
    build_text_encoders,
    build_transformer,
    encode,
    load_flow_pipeline,
)
from tinyworld.models.stable_diffusion import save_pipeline
from tinyworld.vocabulary import CONTEXT_LENGTH

PROMPTS = ["a red ring", "two blue squares"]


@pytest.fixture(scope="module")
def trained():
    return StableDiffusionPipeline.from_pretrained(weights_path("stable-diffusion"), dtype=torch.float32)


@pytest.fixture(scope="module")
def pipeline(trained):
    torch.manual_seed(0)
    encoders = build_text_encoders(trained.text_encoder)
    return build_flow_pipeline(copy.deepcopy(trained.vae), build_transformer(), encoders)


def tokens(pipeline):
    padded = {"padding": "max_length", "max_length": CONTEXT_LENGTH, "return_tensors": "pt"}
    return pipeline.tokenizer(PROMPTS, **padded).input_ids


@pytest.mark.parametrize("rows", [1, 7, 256])
def test_one_zero_row_stands_for_many(pipeline, rows):
    """Training on one row that counts as many is training on the pipeline's own input, to rounding."""
    pipeline = copy.deepcopy(pipeline)
    latents, timesteps = torch.randn(2, 4, 6, 6), torch.tensor([300.0, 800.0])
    with torch.no_grad():
        text, _, pooled, _ = pipeline.encode_prompt(
            PROMPTS, None, None, max_sequence_length=rows, do_classifier_free_guidance=False
        )
        expected = pipeline.transformer(latents, text, pooled, timesteps).sample
        attention = ZeroRowAttention()
        attention.rows = rows
        pipeline.transformer.set_attn_processor(attention)
        short, own = encode([pipeline.text_encoder, pipeline.text_encoder_2], tokens(pipeline))
        found = pipeline.transformer(latents, short, own, timesteps).sample
    assert torch.equal(own, pooled) and short.shape[1] == CONTEXT_LENGTH + 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1


def test_the_text_encoder_starts_as_stable_diffusions(pipeline, trained):
    """Its second layer is the last one of Stable Diffusion's, before the final norm."""
    with torch.no_grad():
        own = pipeline.text_encoder(tokens(pipeline), output_hidden_states=True).hidden_states[-2]
        theirs = trained.text_encoder(tokens(pipeline), output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(own, theirs)


def test_it_is_saved_as_fp16_and_loads_as_float32(pipeline, tmp_path):
    save_pipeline(copy.deepcopy(pipeline), tmp_path / "flow")
    size = sum(path.stat().st_size for path in (tmp_path / "flow").rglob("*") if path.is_file())
    with safe_open(tmp_path / "flow" / "text_encoder" / "model.safetensors", framework="pt") as file:
        assert {key.partition(".")[0] for key in file.keys()} == {"text_model", "text_projection"}  # noqa: SIM118
    found = load_flow_pipeline(tmp_path / "flow")
    found.set_progress_bar_config(disable=True)
    picture = found("a red ring", num_inference_steps=1, output_type="pt").images
    assert size <= 6e6 and picture.shape == (1, 3, 48, 48) and torch.isfinite(picture).all()
    for name in ("text_encoder", "text_encoder_2", "transformer", "vae"):
        stored, built = getattr(found, name).state_dict(), getattr(pipeline, name).state_dict()
        assert stored.keys() == built.keys()
        assert all(torch.equal(stored[key], value.half().float()) for key, value in built.items() if value.dim())
