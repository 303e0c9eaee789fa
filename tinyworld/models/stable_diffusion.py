"""The tiny Stable Diffusion: built from the real classes, trained on right captions, saved as a pipeline folder."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from tinyworld.data import sample_pairs
from tinyworld.models.training_stage import train_stage
from tinyworld.oracle import oracle_reward
from tinyworld.scenes import SIZE, heldout_prompts, train_prompts
from tinyworld.vocabulary import CONTEXT_LENGTH, build_tokenizer

LATENT_SIZE = SIZE // 8
_TEXT_WIDTH = 128
_LATENT_NOISE = 0.25  # at most this share of the latents' standard deviation


def build_autoencoder() -> AutoencoderKL:
    """An 8x autoencoder with four latent channels. It has few channels at full resolution, which takes most time."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 24, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=_TEXT_WIDTH,
        attention_head_dim=2,  # the number of heads, despite its name
        norm_num_groups=16,
    )


def build_text_encoder() -> CLIPTextModel:
    tokenizer = build_tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_TEXT_WIDTH,
            intermediate_size=4 * _TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            projection_dim=_TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def train_autoencoder(vae: AutoencoderKL, work_dir: Path, steps: int, seed: int) -> float:
    """Trains the autoencoder on scenes of the seen split and sets its scaling factor; returns the minutes it took."""

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        pictures = sample_pairs(rng, 16)[0] * 2 - 1
        posterior = vae.encode(pictures).latent_dist
        difference = vae.decode(posterior.sample()).sample - pictures
        return difference.abs().mean() + 2 * difference.square().mean() + 1e-4 * posterior.kl().mean() / 144

    minutes = train_stage(
        "autoencoder", vae, loss_of_step, work_dir=work_dir, steps=steps, learning_rate=2e-3, seed=seed,
        average=0.99, report=lambda: "psnr {psnr:.2f} oracle {oracle:.3f}".format(**measure_autoencoder(vae)),
    )  # fmt: skip
    with torch.no_grad():
        latents = vae.encode(sample_pairs(np.random.default_rng(seed), 512)[0] * 2 - 1).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    return minutes


def train_decoder(vae: AutoencoderKL, work_dir: Path, steps: int, seed: int) -> float:
    """Trains the decoder further with a frozen encoder, so that latents stay valid; returns the minutes it took.

    Noise is added to the latents, so the decoder also gives sharp pictures for the imprecise latents of a denoiser.
    """
    decoder = torch.nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True)

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        pictures = sample_pairs(rng, 16)[0] * 2 - 1
        with torch.no_grad():
            latents = vae.encode(pictures).latent_dist.sample()
        strength = _LATENT_NOISE / vae.config.scaling_factor * torch.rand(len(latents), 1, 1, 1)
        difference = vae.decode(latents + strength * torch.randn_like(latents)).sample - pictures
        return difference.abs().mean() + 2 * difference.square().mean()

    return train_stage(
        "decoder", decoder, loss_of_step, work_dir=work_dir, steps=steps, learning_rate=1e-3, seed=seed, average=0.99,
        report=lambda: "psnr {psnr:.2f} oracle {oracle:.3f}".format(**measure_autoencoder(vae)),
    )  # fmt: skip


@torch.no_grad()
def measure_autoencoder(vae: AutoencoderKL, count: int = 256, held_out: bool = False) -> dict[str, float]:
    """Mean PSNR (dB) of reconstructions, their mean oracle score (0 to 1), and the share with an oracle score of 1."""
    pictures, prompts = sample_pairs(np.random.default_rng(17), count, held_out)
    latents = vae.encode(pictures * 2 - 1).latent_dist.mean
    restored = (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    psnr = -10 * (restored - pictures).square().mean((1, 2, 3)).log10()
    scores = oracle_reward(restored, [prompt.text for prompt in prompts])[0]
    return {"psnr": psnr.mean().item(), "oracle": scores.mean().item(), "right": (scores == 1).float().mean().item()}


class LatentPool:
    """The denoiser's training set: scaled latents of many scenes and their prompts' tokens, encoded once."""

    def __init__(self, vae: AutoencoderKL, count: int, seed: int):
        tokenizer = build_tokenizer()
        latents, texts = [], []
        for part in range(count // 500):
            pictures, prompts = sample_pairs(np.random.default_rng((seed, part)), 500)
            with torch.no_grad():
                latents.append(vae.encode(pictures * 2 - 1).latent_dist.mean * vae.config.scaling_factor)
            texts += [prompt.text for prompt in prompts]
        self.latents = torch.cat(latents)
        padded = {"padding": "max_length", "max_length": CONTEXT_LENGTH, "return_tensors": "pt"}
        self.tokens = tokenizer(texts, **padded).input_ids
        self.empty = tokenizer([""], **padded).input_ids

    def batch(self, rng: np.random.Generator, size: int, drop: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (size, 4, h, w) and tokens (size, L). A share ``drop`` of the prompts is empty, for guidance."""
        chosen = torch.from_numpy(rng.integers(0, len(self.latents), size))
        dropped = torch.from_numpy(rng.random(size) < drop)
        return self.latents[chosen], torch.where(dropped[:, None], self.empty, self.tokens[chosen])


def train_denoiser(pipeline: StableDiffusionPipeline, work_dir: Path, steps: int, seed: int, pool_size: int) -> float:
    """Trains UNet and text encoder together by v-prediction on the seen split; returns the minutes it took."""
    pool = LatentPool(pipeline.vae, pool_size, seed)
    unet, text_encoder, scheduler = pipeline.unet, pipeline.text_encoder, pipeline.scheduler
    both = torch.nn.ModuleList([unet, text_encoder])

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        latents, tokens = pool.batch(rng, 64, drop=0.1)
        noise = torch.randn_like(latents)
        timesteps = torch.from_numpy(rng.integers(0, scheduler.config.num_train_timesteps, len(latents)))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        target = scheduler.get_velocity(latents, noise, timesteps)
        predicted = unet(noisy, timesteps, text_encoder(tokens).last_hidden_state).sample
        return (predicted - target).square().mean()

    return train_stage(
        "denoiser", both, loss_of_step, work_dir=work_dir, steps=steps, learning_rate=1.5e-3, seed=seed, average=0.999,
        report=lambda: "oracle at guidance 4: seen {:.3f} held-out {:.3f}".format(
            *(measure_samples(pipeline, prompts, 4.0) for prompts in (train_prompts()[::5], heldout_prompts()[:200]))
        ),
    )  # fmt: skip


@torch.no_grad()
def measure_samples(
    pipeline: DiffusionPipeline, prompts: list[str], guidance: float, steps: int = 10, **options
) -> float:
    """Mean oracle score of one sample per prompt.

    Args:
        options: further arguments of the pipeline; none: the sampler that fine-tuning uses (DDIM, eta 1).
    """
    options = options or {"eta": 1.0}
    pipeline.set_progress_bar_config(disable=True)
    scores = []
    for start in range(0, len(prompts), 128):
        part = prompts[start : start + 128]
        generator = [torch.Generator().manual_seed(start + index) for index in range(len(part))]
        pictures = pipeline(
            part, num_inference_steps=steps, guidance_scale=guidance, generator=generator, output_type="pt", **options
        ).images
        scores.append(oracle_reward(pictures, part)[0])
    return torch.cat(scores).mean().item()


def build_pipeline(vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel):
    return StableDiffusionPipeline(
        vae=vae.eval(),
        unet=unet.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=build_tokenizer(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


def save_pipeline(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Writes the pipeline as a folder. The weights are fp16 and load as float32 by default."""
    pipeline.to(torch.float16).save_pretrained(folder)
    for encoder in folder.glob("text_encoder*"):
        to_hub_layout(encoder / "model.safetensors", "", "text_model.")
        # transformers takes the dtype from the config. Without this the encoder would load as fp16, unlike the rest.
        edit_json(encoder / "config.json", {"dtype": "float32"})
    # diffusers saves the path that a model was loaded from. Remove this path of the training machine.
    for path in (folder / "model_index.json", *folder.glob("*/config.json")):
        edit_json(path, {})


def edit_json(path: Path, changes: dict) -> None:
    """Changes some values of a JSON file and removes the path that the model was loaded from."""
    values = json.loads(path.read_text()) | changes
    values.pop("_name_or_path", None)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    os.replace(partial, path)


def to_hub_layout(file: Path, tower: str, level: str) -> None:
    """Renames a CLIP tower's weights to TOWER + LEVEL + ..., the names used on the hub.

    Some versions of transformers, for example 5.4, do not find weights under other names. If some weights have the name
    of the hub, all have it: what lies beside the tower, a projection, stays where it is.
    """
    with safe_open(file, framework="pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        metadata = stored.metadata()
    named = any(key.startswith(tower + level) for key in tensors)
    for key in [key for key in tensors if key.startswith(tower) and not named]:
        tensors[tower + level + key.removeprefix(tower)] = tensors.pop(key)
    partial = file.with_suffix(".partial")
    save_file(tensors, partial, metadata)
    partial.chmod(0o644)
    os.replace(partial, file)
