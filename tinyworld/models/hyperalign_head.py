"""The tiny world's HyperAlign head: fitted on rated scenes and generated pictures, then measured.

The score of a pair is synthetic: the share of the prompt's facts that hold, plus noise in place of a human's.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from reward import HyperAlign, HyperAlignConfig, HyperAlignReward
from reward.backbone.towers import Backbone
from reward.training.train import fit_head, spearman
from tinyworld.data import altered, pictures_of, worn
from tinyworld.oracle import facts_that_hold, read_scene
from tinyworld.scenes import Prompt, sample_prompt

_RATER_NOISE = 0.05
_CHUNK = 500


def rated_pairs(
    vae: AutoencoderKL, seed: int, count: int, held_out: bool = False, noise: float = _RATER_NOISE
) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Pictures, prompts and scores.

    30 % of the prompts are right, 35 % have one thing changed, 20 % two, 15 % are random. Half of the pictures are
    reconstructed by the autoencoder, and all are slightly blurred and noisy, like a generator's.

    Returns:
        (pictures (count, 3, 48, 48) in [0, 1], prompts, (count,) scores in [0, 1]).
    """
    pictures, texts, scores = [], [], []
    for part in range(-(-count // _CHUNK)):
        rng = np.random.default_rng((seed, part))
        shown = [sample_prompt(rng, held_out) for _ in range(min(_CHUNK, count - part * _CHUNK))]
        asked = [_asked(prompt, rng, held_out) for prompt in shown]
        batch = pictures_of(shown, rng)
        truth = [np.mean(facts_that_hold(read_scene(p), q)) for p, q in zip(_hwc(batch), asked, strict=True)]
        with torch.no_grad():
            restored = vae.decode(vae.encode(batch * 2 - 1).latent_dist.mean).sample / 2 + 0.5
        through = torch.from_numpy(rng.random(len(batch)) < 0.5)[:, None, None, None]
        pictures.append(worn(torch.where(through, restored.clamp(0, 1), batch), rng))
        texts += [prompt.text for prompt in asked]
        scores.append(np.clip(np.array(truth) + noise * rng.standard_normal(len(truth)), 0, 1))
    return torch.cat(pictures), texts, torch.from_numpy(np.concatenate(scores)).float()


def train_head(
    encoder_folder: Path, vae: AutoencoderKL, generated: tuple, folder: Path, seed: int, count: int = 8_000
) -> None:
    """Fits the head on `count` rated scenes and on generated pictures, and saves it to `folder`.

    Args:
        generated: what `tinyworld.generated.generated_pairs` returns; its last tenth is for validation.
    """
    backbone = Backbone(f"local-dir:{encoder_folder}", None)
    # Every form of the entailment loss shrinks the text radii to their bound, and the cone's width then carries no
    # information. The loss would gain 0.01 to 0.02 Spearman (benchmarks/tinyworld_evaluator), but this head is used
    # to show explanations.
    config = HyperAlignConfig(
        embed_dim=backbone.embed_dim,
        backbone=f"local-dir:{encoder_folder}",
        text_radius=0.6,
        radius_spread=0.5,
        entailment=None,
    )
    torch.manual_seed(seed)
    head = HyperAlign(config)
    pictures, texts, scores, index = generated
    noisy = (scores + _RATER_NOISE * torch.randn(len(scores))).clamp(0, 1)
    image, text, _ = features(backbone, pictures, texts, scores)
    drawn = (image[index], text, noisy)
    scenes = [features(backbone, *rated_pairs(vae, s, n)) for s, n in ((seed, count), (seed + 1, count // 10))]
    cut = len(texts) * 9 // 10
    train = [torch.cat([a[:cut], b]) for a, b in zip(drawn, scenes[0], strict=True)]
    val = tuple(torch.cat([a[cut:], b]) for a, b in zip(drawn, scenes[1], strict=True))
    fit_head(head, *train, val=val, epochs=20, batch_size=256, lr=2e-3, seed=seed)
    HyperAlignReward(config, head, backbone).save_pretrained(folder, copy_backbone=False)


@torch.no_grad()
def measure_reward(reward: HyperAlignReward, pictures: torch.Tensor, texts: list[str], truth: torch.Tensor) -> dict:
    """Spearman of the reward and of the plain cosine with the oracle, and whether the geometry adds information.

    Returns:
        ``spearman_reward``, ``spearman_cosine``, ``std_text_radius``, and ``cosine_and_distance`` …: Spearman between
        the adapted cosine and distance, exterior angle and half-aperture. Near 1 or -1 they add nothing to the cosine.
    """
    out = reward.explain(pictures, texts)
    image, text = reward.backbone.encode_images(pictures), reward.backbone.encode_prompts(texts)
    plain = torch.cosine_similarity(image, text, dim=-1)
    return {
        "spearman_reward": spearman(out.score, truth),
        "spearman_cosine": spearman(plain, truth),
        "std_text_radius": reward.head.radii(image, text)[1].std().item(),
        "cosine_and_distance": spearman(out.similarity, out.distance),
        "cosine_and_exterior_angle": spearman(out.similarity, out.exterior_angle),
        "cosine_and_half_aperture": spearman(out.similarity, out.half_aperture),
    }


def _asked(shown: Prompt, rng: np.random.Generator, held_out: bool) -> Prompt:
    draw = rng.random()
    if draw < 0.30:
        return shown
    if draw < 0.65:
        return altered(shown, rng, not held_out)
    if draw < 0.85:
        return altered(altered(shown, rng, not held_out), rng, not held_out)
    return sample_prompt(rng, held_out)


def _hwc(pictures: torch.Tensor) -> np.ndarray:
    return pictures.permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def features(backbone: Backbone, pictures: torch.Tensor, texts: list[str], scores: torch.Tensor):
    """(image features (N, D), text features (N, D), scores), the inputs of `fit_head`."""
    image = torch.cat([backbone.encode_images(part) for part in pictures.split(_CHUNK)])
    text = torch.cat([backbone.encode_prompts(texts[i : i + _CHUNK]) for i in range(0, len(texts), _CHUNK)])
    return image, text, scores
