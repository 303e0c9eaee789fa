"""The questions of this benchmark: held-out scenes of the tiny world, as a table of pictures, questions and answers."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from attention_refine.vqa.layouts import VQAQuestion, load_questions
from tinyworld.questions import OPEN_KINDS, YES_NO_KINDS, ask
from tinyworld.scenes import BACKGROUND_RANGE, SIZE, SceneObject, render, sample_prompt, sample_scene

KINDS = (*YES_NO_KINDS, *OPEN_KINDS)


def held_out_scene(rng: np.random.Generator) -> tuple[list[SceneObject], np.ndarray]:
    """The objects and the picture (48, 48, 3) in [0, 1] of a random held-out prompt."""
    objects = sample_scene(sample_prompt(rng, held_out=True), rng)
    return objects, render(objects, SIZE, rng.uniform(*BACKGROUND_RANGE))


def make_questions(
    folder: Path, count: int, seed: int, noise: float = 0.0
) -> tuple[list[VQAQuestion], list[str]]:
    """Make `count` questions, one per picture, with alternating kinds, write them to `folder` and read them back.

    Args:
        noise: standard deviation of the pixel noise, for pixels in [0, 1]. It does not change the scenes and questions
            of a seed.

    Returns:
        the questions and their kinds.
    """
    rng, noise_rng = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    folder.mkdir(parents=True, exist_ok=True)
    rows, kinds = [], []
    while len(rows) < count:
        objects, picture = held_out_scene(rng)
        kind = KINDS[len(rows) % len(KINDS)]
        question = ask(kind, objects, rng, seen_only=False)
        if question is None:
            continue
        name = f"{len(rows):04d}.png"
        save(folder / name, picture + noise * noise_rng.standard_normal(picture.shape))
        rows.append((name, question.text, question.answer))
        kinds.append(kind)
    with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "question", "answer"))
        writer.writerows(rows)
    return load_questions("table", folder / "questions.csv"), kinds


def save(path: Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) in [0, 1] as PNG."""
    Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path)
