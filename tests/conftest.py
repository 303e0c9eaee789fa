"""What every test shares: offline, one thread, and a tiny random pipeline made of the real classes."""

import json
import os
import string

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


def build_tiny_pipeline(folder, **scheduler):
    """A random StableDiffusionPipeline, 16 x 16 pixels, 8 x 8 latents; its tokenizer reads letter by letter."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [letter + end for letter in string.ascii_lowercase + string.digits for end in ("", "</w>")]
    vocab = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer_folder = folder / "letters"
    tokenizer_folder.mkdir(parents=True, exist_ok=True)
    (tokenizer_folder / "vocab.json").write_text(json.dumps(vocab))
    (tokenizer_folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder, model_max_length=24)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocab), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                num_attention_heads=2, max_position_embeddings=24, bos_token_id=len(vocab) - 2,
                eos_token_id=len(vocab) - 1, pad_token_id=len(vocab) - 1,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(
            **({"clip_sample": False, "steps_offset": 1, "beta_schedule": "scaled_linear"} | scheduler)
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory):
    """The tiny pipeline, saved as `StableDiffusionPipeline.from_pretrained` loads it."""
    folder = tmp_path_factory.mktemp("tiny")
    build_tiny_pipeline(folder / "scratch").save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture
def tiny_pipeline(tiny_pipeline_folder):
    """A fresh copy of the tiny pipeline for each test."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(tiny_pipeline_folder, safety_checker=None)
