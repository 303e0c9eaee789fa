"""The published annotation files, where they are: HYPERALIGN_DATASETS, or shared/datasets beside the repository."""

import os
import time
from pathlib import Path

import pytest

from reward.datasets import SPLIT_SEEDS, TEST_SHARES, load_dataset, prompt_key, split_by_prompt
from reward.datasets.aigciqa2023 import picture_paths
from reward.datasets.workbook import workbook_rows

ROOT = Path(__file__).parents[3]
DATASETS = Path(os.environ.get("HYPERALIGN_DATASETS", ROOT.parent / "shared" / "datasets"))

SETS = [
    # rows, prompts, smallest and largest score
    ("agiqa-3k", "AGIQA-3K", 2383, 240, 0.047, 4.286),
    ("aigciqa2023", "AIGCIQA2023", 2400, 100, 27.69, 72.39),
    ("pku-i2iqa", "PKU-I2IQA", 1600, 199, 0.676, 4.984),
]


def there(folder: str) -> Path:
    if not (DATASETS / folder).is_dir():
        pytest.skip(f"no {DATASETS / folder}")
    return DATASETS / folder


@pytest.mark.parametrize("name, folder, rows, prompts, low, high", SETS)
def test_they_parse_completely_and_soon(name, folder, rows, prompts, low, high):
    path = there(folder)
    pictures = (path / "images").is_dir()
    start = time.perf_counter()
    dataset = load_dataset(name, path, check_images=pictures)
    seconds = time.perf_counter() - start
    assert len(dataset) == rows and dataset.bad == () and len({prompt_key(p) for p in dataset.prompts}) == prompts
    assert dataset.scores.min() == pytest.approx(low, abs=0.01)
    assert dataset.scores.max() == pytest.approx(high, abs=0.01)
    assert len(set(dataset.images)) == rows
    assert seconds < 2
    for seed in SPLIT_SEEDS:
        split = split_by_prompt(dataset.prompts, seed=seed, test_share=TEST_SHARES[name], val_share=0.1)
        parts = [{prompt_key(dataset.prompts[i]) for i in part} for part in split]
        assert sum(map(len, parts)) == prompts == len(set.union(*parts))


def test_the_order_of_aigciqa2023_is_that_of_its_index():
    folder = there("AIGCIQA2023")
    index = [cells[:2] for _, cells in workbook_rows(folder / "pic-index.xlsx")]
    prompts = [cells[2] for _, cells in workbook_rows(folder / "AIGCIQA2023_Prompts.xlsx")]
    assert len(index) == 2400 and len(prompts) == 100
    for i, (model, file) in enumerate(index):
        assert picture_paths(i, 100) == (f"Image/allimg/{i}.png", f"Image/{model}/{file}")
    dataset = load_dataset("aigciqa2023", folder, check_images=False)
    for image, prompt in zip(dataset.images, dataset.prompts, strict=True):
        assert prompts[int(image.stem) % 400 // 4] == prompt
