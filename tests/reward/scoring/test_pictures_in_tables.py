"""Pictures inside tables and shards: the scores of the same pictures as files, rows by name, cut runs that go on."""

import csv
import io
import sys
from pathlib import Path

import datasets
import pandas
import pytest
import torch
import webdataset
from PIL import Image

from reward.cli.main import main
from reward.datasets import load_dataset
from reward.scoring.inputs import find_rows
from reward.scoring.score import PART_BATCHES, score_to_file
from reward.tables import reading
from reward.training.feature_cache import backbone_features

COUNT = 2 * PART_BATCHES * 2 + 3
COLOURS = ("red", "green", "blue", "yellow", "red", "green")
PROMPTS = [f"a {COLOURS[i % 6]} {('circle', 'square')[i % 2]}" for i in range(COUNT)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(COUNT):
        pixels = torch.randint(0, 256, (20 + i % 5, 24 + i % 7, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{i:02d}.png")
    pandas.DataFrame({"file_name": [f"{i:02d}.png" for i in range(COUNT)], "text": PROMPTS}).to_csv(
        folder / "metadata.csv", index=False
    )
    return folder


def cells(folder):
    return [{"bytes": (folder / f"{i:02d}.png").read_bytes(), "path": f"{i:02d}.png"} for i in range(COUNT)]


def as_parquet(folder, to):
    pandas.DataFrame({"image": cells(folder), "caption": PROMPTS, "mos": range(COUNT)}).to_parquet(to / "t.parquet")
    return to / "t.parquet"


def as_shards(folder, to):
    with webdataset.ShardWriter(str(to / "s-%03d.tar"), maxcount=7, verbose=0) as writer:
        for i, cell in enumerate(cells(folder)):
            writer.write({"__key__": f"{i:02d}", "png": cell["bytes"], "json": {"caption": PROMPTS[i], "score": i}})
    return to / f"s-{{000..{(COUNT - 1) // 7:03d}}}.tar"


def as_saved(folder, to):
    data = datasets.Dataset.from_dict({"text": PROMPTS, "image": cells(folder), "score": list(range(COUNT))})
    data.cast_column("image", datasets.Image()).save_to_disk(to / "saved")
    return to / "saved"


def as_semicolons(folder, to):
    table = pandas.DataFrame({"img_path": [rf"photos\{i:02d}.png" for i in range(COUNT)], "prompt": PROMPTS})
    table["rating"] = [i + 0.5 for i in range(COUNT)]
    table.to_csv(to / "t.csv", sep=";", decimal=",", encoding="utf-8-sig", lineterminator="\r\n", index=False)
    return to / "t.csv"


FORMS = [as_parquet, as_shards, as_saved, as_semicolons]


def scores_of(path):
    return [float(row["score"]) for row in csv.DictReader(path.open(encoding="utf-8"))]


@pytest.fixture
def expected(reward, folder, tmp_path):
    score_to_file(reward, find_rows([folder]), tmp_path / "files.csv", batch_size=2, progress=False)
    return scores_of(tmp_path / "files.csv")


@pytest.mark.parametrize("form", FORMS)
def test_the_scores_are_those_of_the_files(reward, folder, tmp_path, expected, form):
    source, told = form(folder, tmp_path), []
    rows = find_rows([source], tell=told.append)
    assert rows.count() == COUNT and len(list(rows)) == COUNT
    score_to_file(reward, rows, tmp_path / "t.csv", batch_size=2, progress=False)
    assert scores_of(tmp_path / "t.csv") == expected and all("image from" in line for line in told)
    names = [row["path"] for row in csv.DictReader((tmp_path / "t.csv").open())]
    first, last = {
        as_parquet: ("t.parquet#1/00.png", f"t.parquet#{COUNT}/{COUNT - 1}.png"),
        as_shards: ("s-000.tar/00.png", f"s-002.tar/{COUNT - 1}.png"), as_saved: ("saved#1", f"saved#{COUNT}"),
        as_semicolons: ("photos/00.png", f"photos/{COUNT - 1}.png"),
    }[form]  # fmt: skip
    assert len(set(names)) == COUNT and names[0].endswith(first) and names[-1].endswith(last)


class Cut(Exception):
    pass


@pytest.mark.parametrize("form", [as_parquet, as_shards, as_saved])
def test_a_run_that_was_cut_goes_on(reward, folder, tmp_path, expected, form):
    rows, output = find_rows([form(folder, tmp_path)]), tmp_path / "t.csv"
    calls = iter(range(PART_BATCHES + 1))

    def stop(module, inputs):
        if next(calls, None) is None:
            raise Cut

    hook = reward.register_forward_pre_hook(stop)
    with pytest.raises(Cut):
        score_to_file(reward, rows, output, batch_size=2, progress=False)
    hook.remove()
    asked = []
    hook = reward.register_forward_pre_hook(lambda module, inputs: asked.extend(inputs[1]))
    score_to_file(reward, rows, output, batch_size=2, progress=False)
    hook.remove()
    assert len(asked) == COUNT - 2 * PART_BATCHES and scores_of(output) == expected


def test_a_streamed_set_is_fetched_once(reward, folder, tmp_path, expected, monkeypatch):
    fetched = []
    plain = sys.modules["reward.tables.hub"]._held
    monkeypatch.setattr("reward.tables.hub._held", lambda cell, name: (fetched.append(name), plain(cell, name))[1])
    rows = find_rows([f"datasets:{as_saved(folder, tmp_path)}?streaming=1"])
    assert rows.count() is None
    score_to_file(reward, rows, tmp_path / "t.csv", batch_size=2, progress=False)
    assert scores_of(tmp_path / "t.csv") == expected and len(fetched) == COUNT


def test_a_bad_row_is_listed_and_the_good_ones_are_kept(reward, folder, tmp_path, expected):
    bad = cells(folder)
    bad[3] = {"bytes": b"no picture", "path": "03.png"}
    bad[5] = {"bytes": None, "path": None}
    prompts = [None, *PROMPTS[1:]]
    pandas.DataFrame({"image": bad, "text": prompts}).to_parquet(tmp_path / "t.parquet")
    rows = find_rows([tmp_path / "t.parquet"])
    count, problems = score_to_file(reward, rows, tmp_path / "t.csv", batch_size=2, progress=False)
    problems = list(problems)
    assert (count.scored, count.unreadable) == (COUNT - 3, 3)
    assert "row 1: expected a prompt but got None" in problems[0] and "#4/03.png: cannot identify" in problems[1]
    assert "the cell 'image' is empty" in problems[2]
    kept = [score for i, score in enumerate(expected) if i not in (0, 3, 5)]
    assert scores_of(tmp_path / "t.csv") == pytest.approx(kept, abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_human_scores_and_features_of_the_same_pictures(reward, folder, tmp_path, form):
    source = form(folder, tmp_path)
    dataset = load_dataset("table", source)
    start = 0.5 if form is as_semicolons else 0
    assert dataset.scores.tolist() == [i + start for i in range(COUNT)] and list(dataset.prompts) == PROMPTS
    files = [folder / f"{i:02d}.png" for i in range(COUNT)]
    found, _ = backbone_features(reward.backbone, dataset.images, PROMPTS, None, progress=False)
    wanted, _ = backbone_features(reward.backbone, files, PROMPTS, None, progress=False)
    assert torch.equal(found, wanted)
    assert len(dataset.subset([1, 2])) == 2


class Stdin:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


@pytest.fixture
def stdin(monkeypatch):
    def feed(data):
        reading.spooled_input.cache_clear()
        monkeypatch.setattr(sys, "stdin", Stdin(data))

    return feed


@pytest.mark.parametrize("form", ["csv", "semicolons", "jsonl", "parquet", "paths"])
def test_standard_input(folder, tmp_path, stdin, monkeypatch, form):
    monkeypatch.chdir(folder)
    table = pandas.DataFrame({"image": [f"{i:02d}.png" for i in range(COUNT)], "prompt": PROMPTS})
    data = {
        "csv": lambda: table.to_csv(index=False).encode(),
        "semicolons": lambda: table.to_csv(index=False, sep=";").encode("utf-8-sig"),
        "jsonl": lambda: table.to_json(orient="records", lines=True).encode(),
        "parquet": lambda: pandas.DataFrame({"image": cells(folder), "prompt": PROMPTS}).to_parquet(),
        "paths": lambda: "\n".join(table["image"]).encode(),
    }[form]()
    stdin(data)
    rows = find_rows(["-"], prompt="a red circle" if form == "paths" else None)
    assert [row.prompt for row in rows] == (["a red circle"] * COUNT if form == "paths" else PROMPTS)
    assert [Path(row.path).name for row in rows] == [f"{i:02d}.png" for i in range(COUNT)]
    assert not any(row.problem for row in rows)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="several processes cannot share standard input"):
        find_rows(["-"])


def test_one_prompt_for_a_table_without_prompts_and_for_no_other(folder, tmp_path):
    pandas.DataFrame({"image": cells(folder)}).to_parquet(tmp_path / "t.parquet")
    assert {row.prompt for row in find_rows([tmp_path / "t.parquet"], prompt="red")} == {"red"}
    (tmp_path / "more").mkdir()
    with pytest.raises(ValueError, match="Expected no prompt beside the table"):
        list(find_rows([as_parquet(folder, tmp_path / "more")], prompt="red"))


def test_a_folder_of_parquet_or_shards_is_what_it_holds(folder, tmp_path):
    (tmp_path / "data").mkdir()
    as_parquet(folder, tmp_path / "data")
    assert find_rows([tmp_path / "data"]).count() == COUNT
    (tmp_path / "shards").mkdir()
    as_shards(folder, tmp_path / "shards")
    assert find_rows([tmp_path / "shards"]).count() == COUNT
    assert len(load_dataset("table", tmp_path / "shards")) == COUNT


def test_the_command_prints_what_was_chosen_and_takes_other_names(reward, folder, tmp_path, capsys):
    reward.save_pretrained(tmp_path / "model")
    pandas.DataFrame(
        {"left": cells(folder), "words": PROMPTS, "image": ["x"] * COUNT, "text": ["y"] * COUNT}
    ).to_parquet(tmp_path / "t.parquet")
    words = ["--image-column", "left", "--prompt-column", "words", "--model", str(tmp_path / "model")]
    assert main(["score", str(tmp_path / "t.parquet"), *words]) == 0
    captured = capsys.readouterr()
    assert f"{tmp_path / 't.parquet'}: image from 'left', prompt from 'words'" in captured.err
    assert captured.err.count("image from") == 1
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert [row["prompt"] for row in rows] == PROMPTS
