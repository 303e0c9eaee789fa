import csv

import numpy as np
from PIL import Image

from reward.datasets import load_dataset
from tinyworld.oracle import share_of_facts
from tinyworld.rated_pictures import write_rated_pictures
from tinyworld.scenes import parse_prompt


def test_scores_are_the_oracles_of_the_pictures_as_saved(tmp_path):
    path = write_rated_pictures(tmp_path / "new", count=16, seed=3)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and len({row["prompt"] for row in rows}) > 2
    for row in rows:
        picture = np.asarray(Image.open(path.parent / row["file_name"])) / 255
        assert float(row["score"]) == round(share_of_facts(picture, parse_prompt(row["prompt"])), 3)
    assert [row["score"] for row in rows[::4]] == ["1.000"] * 4
    assert np.mean([float(row["score"]) < 1 for row in rows]) > 0.5


def test_the_evaluator_reads_it_and_the_same_seed_is_the_same_folder(tmp_path):
    for name in ("one", "two"):
        write_rated_pictures(tmp_path / name, count=8)
    dataset = load_dataset("table", tmp_path / "one")
    assert len(dataset) == 8 and dataset.scores.max() == 1
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
