"""The hyperalign command, with the model replaced by the mean redness of a picture."""

import csv
import json
import sys
import types

import pytest
import torch
from PIL import Image

import reward.hyperalign_reward
from reward.cli import find_pictures, main


class Redness:
    """Stands for HyperAlignReward: the score of a picture is how red it is."""

    loaded: list = []

    @classmethod
    def from_pretrained(cls, model, device=None):
        cls.loaded.append((model, device))
        return cls()

    def __call__(self, images, prompts):
        assert isinstance(prompts, str)
        return torch.tensor([Image.open(path).convert("RGB").getpixel((0, 0))[0] / 255 for path in images])


@pytest.fixture(autouse=True)
def redness(monkeypatch):
    Redness.loaded = []
    monkeypatch.setattr(reward.hyperalign_reward, "HyperAlignReward", Redness)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, red in (("b.png", 255), ("a.jpg", 0), ("c.webp", 128)):
        Image.new("RGB", (8, 8), (red, 0, 0)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_score_writes_csv(pictures, tmp_path, capsys):
    output = tmp_path / "new" / "scores.csv"
    arguments = ["--prompt", 'red, "very"', "--model", "some/model", "--output", str(output)]
    assert main(["score", str(pictures), *arguments]) == 0
    rows = list(csv.DictReader(output.open()))
    assert [row["path"] for row in rows] == [str(pictures / name) for name in ("a.jpg", "b.png", "c.webp")]
    assert rows[1] == {"path": str(pictures / "b.png"), "prompt": 'red, "very"', "score": "1.0"}
    assert Redness.loaded == [("some/model", None)]
    assert "3 scores in" in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == ["scores.csv"]


def test_score_writes_jsonl(pictures, tmp_path):
    output = tmp_path / "scores.jsonl"
    picture = str(pictures / "b.png")
    assert main(["score", picture, "--prompt", "rouge é", "--model", "m", "--output", str(output)]) == 0
    assert json.loads(output.read_text()) == {"path": str(pictures / "b.png"), "prompt": "rouge é", "score": 1.0}


def test_score_prints_without_an_output(pictures, capsys):
    assert main(["score", str(pictures / "b.png"), "--prompt", "red", "--model", "m", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"path,prompt,score\n{pictures / 'b.png'},red,1.0\n"
    assert Redness.loaded == [("m", "cpu")]


def test_rank_prints_the_best_first(pictures, capsys):
    assert main(["rank", str(pictures), "--prompt", "red", "--model", "m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert [line.rsplit("/")[-1] for line in lines] == ["b.png", "c.webp", "a.jpg"]


def test_many_pictures_are_scored_in_batches_and_in_order(tmp_path, capsys):
    for index in range(35):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{index:02d}.png")
    assert main(["score", str(tmp_path), "--prompt", "red", "--model", "m"]) == 0
    scores = [float(row["score"]) for row in csv.DictReader(capsys.readouterr().out.splitlines())]
    assert scores == pytest.approx([index / 255 for index in range(35)])


def test_without_a_model_the_built_in_one_serves_and_says_so(pictures, capsys, monkeypatch):
    world = types.ModuleType("tinyworld")
    world.weights_path = lambda name: f"/weights/{name}"
    monkeypatch.setitem(sys.modules, "tinyworld", world)
    assert main(["rank", str(pictures), "--prompt", "red"]) == 0
    assert Redness.loaded == [("/weights/hyperalign", None)]
    assert "coloured shapes only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "{folder}", "--prompt", "x", "--output", "scores.xlsx"], ".csv or .jsonl, got scores.xlsx"),
        (["score", "{folder}/missing.png", "--prompt", "x"], "found nothing at"),
        (["rank", "{folder}/empty", "--prompt", "x"], "Expected pictures (.bmp"),
    ],
)
def test_wrong_input_is_a_message_and_exit_2(pictures, capsys, arguments, message):
    (pictures / "empty").mkdir()
    assert main([argument.format(folder=pictures) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"hyperalign {arguments[0]}: ") and message in error
    assert Redness.loaded == []


@pytest.mark.parametrize("arguments", [[], ["score", "x.png"], ["score", "x.png", "--pro", "y"], ["sing"]])
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: hyperalign" in capsys.readouterr().err


def test_files_and_folders_mix(pictures):
    found = find_pictures([pictures / "notes.txt", pictures])
    assert [path.name for path in found] == ["notes.txt", "a.jpg", "b.png", "c.webp"]
