"""Tiny random flow-matching pipelines of the real classes, made from configs; tokenizers read letter by letter."""

import string
from collections.abc import Callable

import torch

# Marks between which the chat models' tokenizers put a message.
_CHAT = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }};{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def letters(skipped=""):
    """A tokenizer of single characters, with what T5, Gemma and Qwen pipelines ask of theirs.

    skipped: pattern of what is left out; Sana puts an instruction of a thousand letters before each prompt.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *string.printable])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    if skipped:
        tokenizer.normalizer = normalizers.Replace(Regex(skipped), "::")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
    fast.chat_template = _CHAT
    return fast


_LETTERS = len(string.printable) + 3


def clip(folder, **options):
    """A CLIP tokenizer and its text encoder; the second kind has a projection."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from tests.conftest import letter_tokenizer

    tokenizer, config = letter_tokenizer(folder, num_hidden_layers=2, **options)
    return tokenizer, (CLIPTextModelWithProjection if "projection_dim" in options else CLIPTextModel)(config)


def t5(model_class="T5EncoderModel", size=16):
    import transformers

    config = {"T5EncoderModel": "T5Config", "UMT5EncoderModel": "UMT5Config"}[model_class]
    return getattr(transformers, model_class)(
        getattr(transformers, config)(
            vocab_size=_LETTERS, d_model=size, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
    )


def gemma():
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(
        Gemma2Config(
            vocab_size=_LETTERS, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=4, pad_token_id=0, eos_token_id=1, bos_token_id=2,
        )
    )


def qwen3(model_class="Qwen3Model", layers=2):
    import transformers

    return getattr(transformers, model_class)(
        transformers.Qwen3Config(
            vocab_size=_LETTERS, hidden_size=8, intermediate_size=8, num_hidden_layers=layers, num_attention_heads=2,
            num_key_value_heads=1, head_dim=4, max_position_embeddings=1024,
        )
    )


def vae(channels, **options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=2, latent_channels=channels, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False, **options,
    )


def euler(**options):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def sd3(folder):
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    tokenizer, encoder = clip(folder / "one", projection_dim=8)
    tokenizer_2, encoder_2 = clip(folder / "two", projection_dim=8)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, caption_projection_dim=16, joint_attention_dim=32, pooled_projection_dim=16,
        pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=euler(shift=3.0), vae=vae(4), text_encoder=encoder, tokenizer=tokenizer,
        text_encoder_2=encoder_2, tokenizer_2=tokenizer_2, text_encoder_3=t5(size=32), tokenizer_3=letters(),
    )


def flux(folder, guidance_embeds=True):
    from diffusers import FluxPipeline, FluxTransformer2DModel

    tokenizer, encoder = clip(folder / "one")
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=guidance_embeds,
    )
    return FluxPipeline(
        transformer=transformer, scheduler=euler(use_dynamic_shifting=True), vae=vae(4), text_encoder=encoder,
        tokenizer=tokenizer, text_encoder_2=t5(), tokenizer_2=letters(),
    )


def flux2_klein(folder):
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel

    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
        joint_attention_dim=24, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )
    autoencoder = AutoencoderKLFlux2(
        sample_size=16, block_out_channels=(4, 4), layers_per_block=1, latent_channels=4, norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )
    # The pipeline reads the hidden states of layers 9, 18 and 27.
    return Flux2KleinPipeline(
        transformer=transformer, scheduler=euler(use_dynamic_shifting=True), vae=autoencoder,
        text_encoder=qwen3("Qwen3ForCausalLM", layers=28), tokenizer=letters(),
    )


def qwen_image(folder):
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=1,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )
    autoencoder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False], attn_scales=[],
        latents_mean=[0.1] * 4, latents_std=[1.5] * 4,
    )
    encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": _LETTERS, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 2,
                "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16
            },
        )
    )
    return QwenImagePipeline(
        transformer=transformer, scheduler=euler(use_dynamic_shifting=True, shift_terminal=0.02), vae=autoencoder,
        text_encoder=encoder, tokenizer=letters(),
    )


def z_image(folder):
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=1,
        n_kv_heads=1, cap_feat_dim=8, axes_dims=[8, 4, 4], axes_lens=[512, 32, 32],
    )
    for token in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(token, std=0.02)  # made by torch.empty
    return ZImagePipeline(
        transformer=transformer, scheduler=euler(shift=3.0), vae=vae(4), text_encoder=qwen3(), tokenizer=letters()
    )


def sana(folder):
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    transformer = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
        sample_size=32,
    )
    autoencoder = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock",) * 2,
        decoder_block_types=("ResBlock",) * 2, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()), encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1), scaling_factor=0.41,
    )
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, algorithm_type="dpmsolver++"
    )
    return SanaPipeline(
        transformer=transformer, scheduler=scheduler, vae=autoencoder, text_encoder=gemma(),
        tokenizer=letters("(?m)^.*User Prompt: "),
    )


def lumina2(folder):
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=8, num_layers=1, num_refiner_layers=1,
        num_attention_heads=1, num_kv_heads=1, multiple_of=16, norm_eps=1e-5, scaling_factor=1.0,
        axes_dim_rope=(4, 2, 2), axes_lens=(300, 32, 32), cap_feat_dim=8,
    )
    return Lumina2Pipeline(
        transformer=transformer, scheduler=euler(use_dynamic_shifting=True), vae=vae(4), text_encoder=gemma(),
        tokenizer=letters(),
    )


def aura_flow(folder):
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel

    transformer = AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16, joint_attention_dim=16,
        pos_embed_max_size=64,
    )
    return AuraFlowPipeline(
        transformer=transformer, scheduler=euler(shift=1.7), vae=vae(4), text_encoder=t5("UMT5EncoderModel"),
        tokenizer=letters(),
    )


def chroma(folder):
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    transformer = ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 8), approximator_hidden_dim=16, approximator_layers=1,
        approximator_num_channels=16,
    )
    return ChromaPipeline(
        transformer=transformer, scheduler=euler(), vae=vae(4), text_encoder=t5(), tokenizer=letters()
    )


def cogview4():
    """A family that does not fit: its timesteps are not linear in its sigmas."""
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel
    from transformers import GlmConfig, GlmModel

    transformer = CogView4Transformer2DModel(
        patch_size=2, in_channels=4, num_layers=1, attention_head_dim=4, num_attention_heads=4, out_channels=4,
        text_embed_dim=16, time_embed_dim=8, condition_dim=4,
    )
    encoder = GlmModel(
        GlmConfig(
            vocab_size=_LETTERS, hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, head_dim=8, pad_token_id=0,
        )
    )
    scheduler = euler(use_dynamic_shifting=True, time_shift_type="linear", base_shift=0.25, max_shift=0.75)
    return CogView4Pipeline(
        transformer=transformer, scheduler=scheduler, vae=vae(4), text_encoder=encoder, tokenizer=letters()
    )


BUILDERS: dict[str, Callable] = {
    builder.__name__: builder
    for builder in (sd3, flux, flux2_klein, qwen_image, z_image, sana, lumina2, aura_flow, chroma)
}


# Picture sides that the real VAE's scale, which some pipelines take for granted, leaves a latent to.
RESOLUTIONS = dict.fromkeys(BUILDERS, 16) | {"sana": 32, "lumina2": 32}


def build(name, folder):
    """The tiny pipeline of a family; the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = BUILDERS[name](folder)
        # Where a family starts its modulation or its last layer at zero, prompts and timesteps would have no effect.
        for parameter in pipeline.transformer.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
