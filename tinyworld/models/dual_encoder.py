"""The tiny dual encoder: an open_clip model, trained contrastively with hard negatives, saved for ``local-dir:``."""

import json
import os
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize

from tinyworld.data import altered, pictures_of, sample_pairs, share_that_holds, worn
from tinyworld.models.training_stage import train_stage
from tinyworld.scenes import SIZE, sample_prompt
from tinyworld.vocabulary import CONTEXT_LENGTH, build_tokenizer

_HARD_NEGATIVES = 2
_PREPROCESSING = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.3, 0.3, 0.3],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def model_config() -> dict:
    """open_clip's ``model_cfg``: a ViT of 64 patches and a three-layer text transformer, both of width 96."""
    return {
        "embed_dim": 96,
        "vision_cfg": {"image_size": SIZE, "layers": 4, "width": 96, "head_width": 24, "patch_size": 6},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": len(build_tokenizer()),
            "hf_tokenizer_name": "tokenizer in this folder",
            "width": 96,
            "heads": 4,
            "layers": 3,
        },
    }


def build_dual_encoder() -> open_clip.model.CLIP:
    return open_clip.model.CLIP(**model_config())


def tokenize(texts: list[str]) -> torch.Tensor:
    """Token ids (N, 16), the same as from open_clip's tokenizer of the saved folder."""
    padded = {"padding": "max_length", "truncation": True, "max_length": CONTEXT_LENGTH, "return_tensors": "pt"}
    return build_tokenizer()(texts, **padded).input_ids


def to_input(pictures: torch.Tensor) -> torch.Tensor:
    """Normalises pictures (B, 3, 48, 48) in [0, 1] for the image tower."""
    mean, std = (torch.tensor(_PREPROCESSING[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (pictures - mean) / std


def train_dual_encoder(model: open_clip.model.CLIP, work_dir: Path, steps: int, seed: int) -> float:
    """Trains contrastively on scenes of the seen split; returns the minutes it took.

    The negatives are the other captions of the batch and, for each picture, two captions that differ from its own in
    one thing. Without these hard negatives a dual encoder learns which words occur, but not how they belong together.
    """

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        pictures, prompts = sample_pairs(rng, 64)
        wrong = [altered(prompt, rng) for prompt in prompts for _ in range(_HARD_NEGATIVES)]
        texts = [prompt.text for prompt in (*prompts, *wrong)]
        image = normalize(model.encode_image(to_input(worn(pictures, rng))), dim=-1)
        text = normalize(model.encode_text(_tokens(texts)), dim=-1)
        logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
        target = torch.arange(len(prompts))
        return (cross_entropy(logits, target) + cross_entropy(logits[:, : len(prompts)].T, target)) / 2

    return train_stage(
        "dual_encoder", model, loss_of_step, work_dir=work_dir, steps=steps, learning_rate=1e-3, seed=seed,
        average=0.998,
        report=lambda: "retrieval seen {:.3f} held-out {:.3f}".format(
            *(measure_retrieval(model, held_out)["one_wrong"] for held_out in (False, True))
        ),
    )  # fmt: skip


def train_on_ratings(
    model: open_clip.model.CLIP, rated: tuple, work_dir: Path, steps: int, seed: int, learning_rate: float = 5e-4
) -> float:
    """Trains further on rated pairs; returns the minutes it took. A linear function of the cosine predicts the score.

    Two thirds of a batch are generated pictures with their scores. One third are clean scenes, each with its own
    caption and a changed one.

    Args:
        rated: what `tinyworld.generated.generated_pairs` returns, without the index.
    """
    pictures, texts, scores = rated
    tokens = _tokens(texts)
    line = torch.nn.Parameter(torch.tensor([1.5, 0.0]))
    both = torch.nn.ParameterList([line, *model.parameters()])

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        chosen = torch.from_numpy(rng.integers(0, len(pictures), 96))
        pairs = torch.stack([2 * chosen, 2 * chosen + 1], 1).flatten()
        scenes, prompts = sample_pairs(rng, 48)
        changed = [altered(prompt, rng) for prompt in prompts]
        own = [text for pair in zip(prompts, changed, strict=True) for text in (pair[0].text, pair[1].text)]
        shares = [share_that_holds(p, q) for p, c in zip(prompts, changed, strict=True) for q in (p, c)]
        image = model.encode_image(to_input(torch.cat([pictures[chosen], worn(scenes, rng)]))).repeat_interleave(2, 0)
        text = model.encode_text(torch.cat([tokens[pairs], _tokens(own)]))
        predicted = line[0] * torch.cosine_similarity(image, text, dim=-1) + line[1]
        return (predicted - torch.cat([scores[pairs], torch.tensor(shares)])).square().mean()

    return train_stage(
        "ratings", both, loss_of_step, work_dir=work_dir, steps=steps, learning_rate=learning_rate, seed=seed,
        average=0.99,
        report=lambda: "retrieval seen {:.3f} held-out {:.3f}".format(
            *(measure_retrieval(model, held_out)["one_wrong"] for held_out in (False, True))
        ),
    )  # fmt: skip


@torch.no_grad()
def measure_retrieval(model: open_clip.model.CLIP, held_out: bool, count: int = 500) -> dict[str, float]:
    """How often a picture's own caption has the highest cosine.

    Returns:
        ``of_100``: share of pictures whose own caption is at least as near as 100 random ones; ``one_wrong``: share of
        pictures whose own caption is nearer than an altered one. Both 0 to 1.
    """
    rng = np.random.default_rng(23)
    prompts = list({prompt.text: prompt for prompt in (sample_prompt(rng, held_out) for _ in range(count))}.values())
    image = normalize(model.encode_image(to_input(pictures_of(prompts, rng))), dim=-1)
    text = normalize(model.encode_text(tokenize([prompt.text for prompt in prompts])), dim=-1)
    changed = [altered(prompt, rng, not held_out).text for prompt in prompts]
    wrong = normalize(model.encode_text(tokenize(changed)), dim=-1)
    right = (image * text).sum(-1)
    ranks = []
    for row in range(len(prompts)):
        others = rng.choice(len(prompts), min(100, len(prompts)), replace=False)
        ranks.append(bool((image[row] @ text[others].T <= right[row] + 1e-6).all()))
    return {"of_100": float(np.mean(ranks)), "one_wrong": (right > (image * wrong).sum(-1)).float().mean().item()}


def save_dual_encoder(model: open_clip.model.CLIP, folder: Path) -> None:
    """Writes the folder that ``open_clip.create_model_and_transforms("local-dir:…")`` loads, weights in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.partial", metadata={"format": "pt"})
    os.replace(folder / "open_clip_model.partial", folder / "open_clip_model.safetensors")
    config = {"model_cfg": model_config(), "preprocess_cfg": _PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    build_tokenizer().save_pretrained(folder)


def load_dual_encoder(folder: Path) -> open_clip.model.CLIP:
    """Loads what `save_dual_encoder` wrote, in float32."""
    model = build_dual_encoder()
    weights = load_file(folder / "open_clip_model.safetensors")
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    return model


_KNOWN: dict[str, torch.Tensor] = {}


def _tokens(texts: list[str]) -> torch.Tensor:
    """`tokenize` with a cache, because the grammar has few prompts and a step needs hundreds."""
    new = [text for text in dict.fromkeys(texts) if text not in _KNOWN]
    if new:
        _KNOWN.update(zip(new, tokenize(new), strict=True))
    return torch.stack([_KNOWN[text] for text in texts])
