"""What every test shares: offline, one thread, and a tiny random pipeline made of the real classes."""

import json
import os
import string

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


def letter_tokenizer(folder, **options):
    """A CLIPTokenizer that reads letter by letter, and the text encoder's config that fits it."""
    from transformers import CLIPTextConfig, CLIPTokenizer

    letters = [letter + end for letter in string.ascii_lowercase + string.digits for end in ("", "</w>")]
    vocab = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=24)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2} | options
    config = CLIPTextConfig(
        vocab_size=len(vocab), max_position_embeddings=24, bos_token_id=len(vocab) - 2, eos_token_id=len(vocab) - 1,
        pad_token_id=len(vocab) - 1, **sizes,
    )
    return tokenizer, config


def tiny_vae(**options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **options,
    )


def build_tiny_pipeline(folder, **scheduler):
    """A random StableDiffusionPipeline, 16 x 16 pixels, 8 x 8 latents; its tokenizer reads letter by letter."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    tokenizer, text_config = letter_tokenizer(folder / "letters")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(text_config)
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
        )
        vae = tiny_vae()
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(
            **({"clip_sample": False, "steps_offset": 1, "beta_schedule": "scaled_linear"} | scheduler)
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )


# SDXL 1.0's scheduler, options that Euler ignores included.
SDXL_SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1, "interpolation_type": "linear",
    "use_karras_sigmas": False, "trained_betas": None, "clip_sample": False, "set_alpha_to_one": False,
    "sample_max_value": 1.0, "skip_prk_steps": True,
}


def build_tiny_sdxl_pipeline(folder, **options):
    """A random StableDiffusionXLPipeline, 16 x 16 pixels, 8 x 8 latents; blocks as in SDXL: the first one plain."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    layers = {"num_hidden_layers": 2}  # SDXL reads the last but one
    tokenizer, text_config = letter_tokenizer(folder / "letters", **layers)
    tokenizer_2, text_config_2 = letter_tokenizer(
        folder / "letters_2", **layers, hidden_size=24, projection_dim=20, hidden_act="gelu"
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(text_config)
        text_encoder_2 = CLIPTextModelWithProjection(text_config_2)
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2),
            cross_attention_dim=16 + 24, attention_head_dim=(2, 4), norm_num_groups=4, use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6 * 8,
        )
        # At their usual size the pooled text and the picture's size move a random UNet's output too little to see.
        unet.add_embedding.linear_2.weight.data.mul_(8)
        vae = tiny_vae(scaling_factor=0.13025)
    return StableDiffusionXLPipeline(
        vae=vae, text_encoder=text_encoder, text_encoder_2=text_encoder_2, tokenizer=tokenizer,
        tokenizer_2=tokenizer_2, unet=unet, scheduler=EulerDiscreteScheduler.from_config(SDXL_SCHEDULER),
        add_watermarker=False, **options,
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


@pytest.fixture(scope="session")
def tiny_sdxl_folder(tmp_path_factory):
    """The tiny SDXL pipeline, saved as `StableDiffusionXLPipeline.from_pretrained` loads it."""
    folder = tmp_path_factory.mktemp("tiny-xl")
    build_tiny_sdxl_pipeline(folder / "scratch").save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture
def tiny_sdxl(tiny_sdxl_folder):
    """A fresh copy of the tiny SDXL pipeline for each test."""
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline.from_pretrained(tiny_sdxl_folder, add_watermarker=False)
