"""Batches for the tiny LLaVA: scenes, augmented pictures, and all questions about a picture in one row.

A picture takes 64 tokens and a question about 15, so each picture is encoded once. Its questions follow in the same
row. Each has the positions it would have directly after the picture, and questions do not attend to each other.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torchvision.transforms.functional import gaussian_blur

from tinyworld.questions import Question, ask_all
from tinyworld.scenes import (
    BACKGROUND_RANGE,
    COLOURS,
    KINDS,
    RADIUS_RANGE,
    SHAPES,
    SIZE,
    Prompt,
    SceneObject,
    render,
    sample_prompt,
    sample_scene,
)

_PLAN = ["caption", "whole", "whole", "relation", "relation", "thing", "count", "attribute", "number", "neighbour"]
# Yes/no questions are learned last, long after the questions about what is in the picture.
YES_NO_PLAN = [*_PLAN, "whole", "whole", "relation", "relation", "count"]
_FREE = 0.2  # share of scenes that the grammar may not describe: no object, two alike and another, three ...
_LATENT_NOISE = 0.35  # at most this share of the latents' standard deviation
_FORGOTTEN = 0.25  # share of the answer's input tokens that are replaced by "unknown" in training
_IGNORED = -100


@dataclass(frozen=True)
class Scenes:
    """Scenes and their pictures (B, 3, 48, 48) in [0, 1]."""

    objects: list[list[SceneObject]]
    pictures: torch.Tensor

    def questions(self, index: int, rng: np.random.Generator, plan: list[str] | None = None) -> list[Question]:
        return ask_all(plan or _PLAN, self.objects[index], rng)

    def patch_labels(self, patch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Labels of the object at each of the P = (48 / patch)^2 patches.

        Returns:
            colours and shapes, both (B, P) int64 with 0 for "no object"; centres (x, y), (B, P, 2) float32 in [-1, 1].
        """
        side = SIZE // patch
        centres = (np.arange(side) + 0.5) / side
        colours, shapes = (np.zeros((len(self.objects), side, side), np.int64) for _ in range(2))
        places = np.zeros((len(self.objects), side, side, 2), np.float32)
        for row, objects in enumerate(self.objects):
            for item in objects:
                reach = 1.1 * item.radius
                near = np.hypot(centres[None, :] - item.x, centres[:, None] - item.y) < reach
                colours[row][near] = list(COLOURS).index(item.kind.colour) + 1
                shapes[row][near] = SHAPES.index(item.kind.shape) + 1
                places[row][near] = 2 * item.x - 1, 2 * item.y - 1
        return tuple(torch.from_numpy(labels).flatten(1, 2) for labels in (colours, shapes, places))


def sample_scenes(rng: np.random.Generator, count: int, held_out: bool = False, free: float = _FREE) -> Scenes:
    """Random scenes of one split. A share ``free`` has up to three freely placed objects, always of the seen split."""
    objects = [
        free_scene(rng) if rng.random() < free else sample_scene(sample_prompt(rng, held_out), rng)
        for _ in range(count)
    ]
    return _drawn(objects, rng)


def single_objects(rng: np.random.Generator, count: int) -> Scenes:
    """Scenes of one object."""
    kinds = rng.integers(0, len(KINDS), count)
    return _drawn([sample_scene(Prompt(KINDS[kind]), rng) for kind in kinds], rng)


def _drawn(objects: list[list[SceneObject]], rng: np.random.Generator) -> Scenes:
    pictures = np.stack([render(items, SIZE, rng.uniform(*BACKGROUND_RANGE)) for items in objects])
    return Scenes(objects, torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous())


def free_scene(rng: np.random.Generator) -> list[SceneObject]:
    """Zero, two or three objects that do not overlap, often two alike. No two of them form a held-out combination."""
    number = (0, 2, 2, 3, 3, 3)[rng.integers(6)]
    objects: list[SceneObject] = []
    for _ in range(40):
        if len(objects) == number:
            break
        alike = objects and rng.random() < 0.4
        kind = objects[0].kind if alike else KINDS[rng.integers(len(KINDS))]
        radius = rng.uniform(*RADIUS_RANGE)
        x, y = rng.uniform(1.3 * radius, 1 - 1.3 * radius, 2)
        apart = all(np.hypot(x - o.x, y - o.y) > 1.42 * (radius + o.radius) for o in objects)
        if apart and not any(_together(kind, other.kind).held_out for other in objects):
            objects.append(SceneObject(kind, x, y, radius))
    return objects


def _together(kind, other) -> Prompt:
    return Prompt(kind, count=2) if kind == other else Prompt(kind, second=other)


@torch.no_grad()
def tired(pictures: torch.Tensor, rng: np.random.Generator, vae=None) -> torch.Tensor:
    """Augmented copies (B, 3, 48, 48), similar to what a generator draws.

    A quarter are reconstructed by the autoencoder from noisy latents. Half get small changes of colour, brightness and
    sharpness, and noise. A quarter stay as they are.

    Args:
        vae: autoencoder of the tiny Stable Diffusion; None: no reconstructions.
    """
    count = len(pictures)
    draw = torch.from_numpy(rng.random(count))

    def amount(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32))

    changed = pictures * amount(0.9, 1.05) * amount(0.95, 1.05, 3) + amount(-0.04, 0.04)
    changed = torch.lerp(changed, gaussian_blur(changed, kernel_size=5, sigma=1.0), amount(0, 1))
    noise = torch.from_numpy(rng.standard_normal(pictures.shape).astype(np.float32))
    worn = torch.where((draw < 0.75).view(-1, 1, 1, 1), changed + amount(0, 0.07) * noise, pictures)
    redrawn = (draw < 0.25).nonzero().flatten()
    if vae is not None and len(redrawn):
        latents = vae.encode(pictures[redrawn] * 2 - 1).latent_dist.sample()
        strength = amount(0, _LATENT_NOISE / vae.config.scaling_factor)[redrawn]
        worn[redrawn] = vae.decode(latents + strength * torch.randn_like(latents)).sample / 2 + 0.5
    return worn.clamp(0, 1)


@dataclass(frozen=True)
class Packed:
    """Rows of tokens (B, L), labels (B, L; -100 is ignored), positions (B, L), boolean attention mask (B, 1, L, L)."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor


class Packer:
    """Packs the conversations about a picture into one row.

    Args:
        processor: the LLaVA processor, whose tokenizer makes the tokens.
    """

    def __init__(self, processor):
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._known: dict[str, list[int]] = {}
        side = processor.image_processor.crop_size["height"] // processor.patch_size
        self._prefix = [self._tokenizer.bos_token_id, *self._ids(f"USER: {processor.image_token * side**2}")]

    def pack(self, questions: list[list[Question]], rng: np.random.Generator | None = None) -> Packed:
        """One row for each picture's questions.

        Args:
            rng: replaces some of the answers' input tokens (never labels) by "unknown". The model then predicts the
                next word from the picture and not from the words before. None replaces nothing.
        """
        rows = [self._row(asked, rng) for asked in questions]
        length = max(len(ids) for ids, *_ in rows)
        padded = [np.full((len(rows), length), value) for value in (self._tokenizer.pad_token_id, _IGNORED, 0, -1)]
        for index, row in enumerate(rows):
            for array, values in zip(padded, row, strict=True):
                array[index, : len(values)] = values
        ids, labels, positions, segments = (torch.from_numpy(array) for array in padded)
        # Every token attends to segment 0, the picture. Padding (-1) attends to itself, because a softmax needs a term.
        same = segments[:, :, None] == segments[:, None, :]
        sees = (same | (segments == 0)[:, None, :]) & torch.ones(length, length, dtype=torch.bool).tril()
        return Packed(ids, labels, positions, sees[:, None])

    def _row(self, asked: list[Question], rng: np.random.Generator | None) -> tuple[list[int], ...]:
        start = len(self._prefix)
        ids, labels = list(self._prefix), [_IGNORED] * start
        positions, segments = list(range(start)), [0] * start
        for number, question in enumerate(asked, start=1):
            before = self._ids(f"{question.text} ASSISTANT:")
            answer = [*self._ids(question.answer), self._tokenizer.eos_token_id]
            unread = self._tokenizer.unk_token_id
            ids += before
            ids += answer if rng is None else [unread if rng.random() < _FORGOTTEN else token for token in answer]
            labels += [_IGNORED] * len(before) + answer
            positions += range(start, start + len(before) + len(answer))
            segments += [number] * (len(before) + len(answer))
        return ids, labels, positions, segments

    def _ids(self, text: str) -> list[int]:
        """Tokens, with a cache, because there are few different questions and a step needs a hundred."""
        if text not in self._known:
            self._known[text] = self._tokenizer(text, add_special_tokens=False).input_ids
        return self._known[text]


def answer_loss(model, pixel_values: torch.Tensor, packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the answers' tokens, and the projected features of all patches (B * P, D)."""
    outputs = model.model(
        input_ids=packed.input_ids,
        pixel_values=pixel_values,
        attention_mask=torch.zeros(packed.attention_mask.shape).masked_fill(~packed.attention_mask, -torch.inf),
        position_ids=packed.position_ids,
        use_cache=False,
    )
    told = packed.labels[:, 1:] != _IGNORED
    logits = model.lm_head(outputs.last_hidden_state[:, :-1][told])
    return cross_entropy(logits, packed.labels[:, 1:][told]), outputs.image_hidden_states
