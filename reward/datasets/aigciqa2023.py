"""AIGCIQA2023 (Wang et al. 2023): six models, a hundred prompts, four pictures each; as published, or scores.tsv."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reward.datasets.matlab import read_matlab_numbers
from reward.datasets.rows import Row
from reward.datasets.tab_separated import FILE as TSV
from reward.datasets.tab_separated import read_tab_separated
from reward.datasets.workbook import workbook_rows

# mosz1 is quality, mosz2 authenticity, mosz3 correspondence
SCORES = Path("DATA", "MOS", "mosz3.mat")
VARIABLE = "MOSz"
PROMPTS = "AIGCIQA2023_Prompts.xlsx"
# The order of scores and pictures: model, then prompt, then picture.
MODELS = ("Controlnet", "DALLE", "Glide", "Lafite", "stable-diffusion", "Unidiffuser")
PICTURES = 4


def read_rows(folder: Path) -> Iterator[Row]:
    """Rows as published (scores in MATLAB files, prompts in a workbook), or else those of scores.tsv.

    Picture i is `Image/allimg/{i}.png` or, as pic-index.xlsx lists them, `Image/<model>/<prompt>-<1..4>.png`. The
    score is correspondence, about 28..72.

    Raises:
        FileNotFoundError: neither form.
        ValueError: an unreadable file, or scores and prompts that do not fit each other.
    """
    if (folder / SCORES).is_file():
        return _published(folder)
    if (folder / TSV).is_file():
        return read_tab_separated(folder)
    raise FileNotFoundError(
        f"Expected AIGCIQA2023 with {SCORES} and {PROMPTS}, or with {TSV}, in {folder} but there is neither; give the "
        "folder they are in"
    )


def picture_paths(index: int, prompts: int) -> tuple[str, str]:
    """Where picture `index` may lie: among all, and in its model's folder."""
    model, within = divmod(index, prompts * PICTURES)
    prompt, picture = divmod(within, PICTURES)
    return f"Image/allimg/{index}.png", f"Image/{MODELS[model]}/{prompt:03d}-{picture + 1}.png"


def _published(folder: Path) -> Iterator[Row]:
    path = folder / SCORES
    prompts, scores = _prompts(folder), _scores(path)
    expected = len(MODELS) * len(prompts) * PICTURES
    if len(scores) != expected:
        raise ValueError(
            f"{path}: expected {expected} scores ({len(MODELS)} models x {len(prompts)} prompts of {PROMPTS} x "
            f"{PICTURES} pictures) but got {len(scores)}; fetch both files again"
        )
    for index, score in enumerate(scores.tolist()):
        prompt = prompts[index % (len(prompts) * PICTURES) // PICTURES]
        images = picture_paths(index, len(prompts))
        yield Row(f"{path}, {VARIABLE}({index + 1})", images, prompt, score, (folder,))


def _prompts(folder: Path) -> list[object]:
    path = folder / PROMPTS
    if not path.is_file():
        raise FileNotFoundError(f"Expected the prompts of AIGCIQA2023 but there is no {path}; it belongs beside DATA/")
    prompts = []
    for number, cells in workbook_rows(path):
        if len(cells) < 3:
            raise ValueError(
                f"{path}, row {number}: expected challenge, category and prompt but got {len(cells)} cells; fetch it "
                "again"
            )
        prompts.append(cells[2])
    return prompts


def _scores(path: Path) -> np.ndarray:
    try:
        scores = read_matlab_numbers(path, VARIABLE)
    except ValueError as error:
        raise ValueError(f"Expected a MATLAB file but could not read {path}: {error}; fetch it again") from error
    if scores is None:
        raise ValueError(f"{path}: expected numbers in the variable {VARIABLE} but there are none; fetch it again")
    return scores.ravel()
