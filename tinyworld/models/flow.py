"""The tiny flow-matching model: Stable Diffusion 3's classes, trained as a rectified flow, saved as a pipeline folder.

Rectified flow (arXiv:2209.03003): x_t = (1 - t) x0 + t noise; the transformer predicts the velocity noise - x0.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch.nn.functional import scaled_dot_product_attention
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tinyworld.models.stable_diffusion import LATENT_SIZE, LatentPool, measure_samples
from tinyworld.models.training_stage import train_stage
from tinyworld.scenes import heldout_prompts, train_prompts
from tinyworld.vocabulary import CONTEXT_LENGTH, build_tokenizer

# The pipeline puts this many zero rows in the place of a missing T5's text, unless it is told another number.
MOST_EMPTY_ROWS = 256
_WIDTHS = (128, 32)  # of the two text encoders
_LAYERS = (3, 1)  # the last layer of each is for the pooled embedding alone
_POOLED = (64, 32)
_HEADS, _BLOCKS = 4, 4
_HEAD_WIDTH = 24


def build_transformer() -> SD3Transformer2DModel:
    """A multimodal diffusion transformer that reads every latent pixel as a token."""
    return SD3Transformer2DModel(
        sample_size=LATENT_SIZE,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=_BLOCKS,
        attention_head_dim=_HEAD_WIDTH,
        num_attention_heads=_HEADS,
        caption_projection_dim=_HEADS * _HEAD_WIDTH,
        joint_attention_dim=sum(_WIDTHS),
        pooled_projection_dim=sum(_POOLED),
        pos_embed_max_size=LATENT_SIZE,
        qk_norm="rms_norm",
    )


def build_text_encoders(trained: CLIPTextModel) -> list[CLIPTextModelWithProjection]:
    """The two text encoders. The first one starts from the layers of a trained encoder of the same width."""
    tokenizer = build_tokenizer()
    encoders = [
        CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=width // 32,
                max_position_embeddings=CONTEXT_LENGTH,
                projection_dim=pooled,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        for width, layers, pooled in zip(_WIDTHS, _LAYERS, _POOLED, strict=True)
    ]
    known = dict(trained.named_parameters())
    own = dict(encoders[0].named_parameters())
    with torch.no_grad():
        for name, value in known.items():
            own[name if name in own else f"text_model.{name}"].copy_(value)
    return encoders


def encode(encoders: list[CLIPTextModelWithProjection], tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pipeline makes of tokens (N, L) without a T5: text rows (N, L + 1, D), the last one zero; pooled (N, P).

    The pipeline has more zero rows. All are equal at every layer, so `ZeroRowAttention` lets one stand for many.
    """
    outputs = [encoder(tokens, output_hidden_states=True) for encoder in encoders]
    rows = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return torch.nn.functional.pad(rows, (0, 0, 0, 1)), torch.cat([output.text_embeds for output in outputs], dim=-1)


class ZeroRowAttention:
    """Stable Diffusion 3's joint attention in which the last text row counts as `rows` equal rows.

    A softmax over n equal keys is one key whose logit is raised by log n. So this is exact, and it saves most of the
    pipeline's tokens in training.
    """

    def __init__(self):
        self.rows = 1.0

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None, **options):
        def split(rows: torch.Tensor) -> torch.Tensor:
            return rows.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        pictures = hidden_states.shape[1]
        query, key, value = (
            torch.cat([picture, text], dim=2)
            for picture, text in (
                (attn.norm_q(split(attn.to_q(hidden_states))),
                 attn.norm_added_q(split(attn.add_q_proj(encoder_hidden_states)))),
                (attn.norm_k(split(attn.to_k(hidden_states))),
                 attn.norm_added_k(split(attn.add_k_proj(encoder_hidden_states)))),
                (split(attn.to_v(hidden_states)), split(attn.add_v_proj(encoder_hidden_states))),
            )
        )  # fmt: skip
        bias = torch.zeros(1, 1, 1, key.shape[2])
        bias[..., -1] = np.log(self.rows)
        mixed = scaled_dot_product_attention(query, key, value, bias.expand(1, 1, key.shape[2], -1))
        mixed = mixed.transpose(1, 2).flatten(2)
        text = mixed[:, pictures:]
        return attn.to_out[0](mixed[:, :pictures]), text if attn.context_pre_only else attn.to_add_out(text)


def train_flow(pipeline: StableDiffusion3Pipeline, work_dir: Path, steps: int, seed: int, pool_size: int) -> float:
    """Trains transformer and text encoders together on the seen split; returns the minutes it took."""
    pool = LatentPool(pipeline.vae, pool_size, seed)
    transformer, encoders = pipeline.transformer, [pipeline.text_encoder, pipeline.text_encoder_2]
    attention = ZeroRowAttention()
    own_attention = transformer.attn_processors

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        transformer.set_attn_processor(attention)
        latents, tokens = pool.batch(rng, 32, drop=0.1)
        attention.rows = MOST_EMPTY_ROWS ** rng.random()
        # Two noise levels a picture: the text encoders take a third of a step's time, and run once for both.
        latents = latents.repeat(2, 1, 1, 1)
        rows, pooled = (part.repeat(2, *[1] * (part.dim() - 1)) for part in encode(encoders, tokens))
        noise = torch.randn_like(latents)
        level = torch.sigmoid(torch.randn(len(latents)))
        noisy = torch.lerp(latents, noise, level[:, None, None, None])
        predicted = transformer(noisy, rows, pooled, 1000 * level).sample
        return (predicted - (noise - latents)).square().mean()

    def report() -> str:
        transformer.set_attn_processor(dict(own_attention))
        scores = (
            measure_flow_samples(pipeline, prompts, 2.0) for prompts in (train_prompts()[::8], heldout_prompts()[:200])
        )
        return "oracle at guidance 2: seen {:.3f} held-out {:.3f}".format(*scores)

    minutes = train_stage(
        "flow", torch.nn.ModuleList([transformer, *encoders]), loss_of_step, work_dir=work_dir, steps=steps,
        learning_rate=2.5e-3, seed=seed, average=0.999, report=report, checkpoint_every=1000,
    )  # fmt: skip
    transformer.set_attn_processor(dict(own_attention))
    return minutes


def measure_flow_samples(
    pipeline: StableDiffusion3Pipeline, prompts: list[str], guidance: float, empty_rows: int = 1
) -> float:
    """Mean oracle score of one sample per prompt, 10 Euler steps, with this many zero rows for the missing T5."""
    return measure_samples(pipeline, prompts, guidance, max_sequence_length=empty_rows)


def build_flow_pipeline(vae: AutoencoderKL, transformer: SD3Transformer2DModel, encoders: list):
    """A `StableDiffusion3Pipeline` without T5. The autoencoder's latents have a mean near 0: their shift is 0."""
    vae.register_to_config(shift_factor=0.0)
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=encoders[0].eval(),
        tokenizer=build_tokenizer(),
        text_encoder_2=encoders[1].eval(),
        tokenizer_2=build_tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def load_flow_pipeline(folder: Path) -> StableDiffusion3Pipeline:
    """The saved pipeline; diffusers wants to be told that it has no T5."""
    return StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32)
