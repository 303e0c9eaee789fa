"""The hyperalign command, with the model replaced by the mean redness of a picture."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from PIL import Image

import reward.hyperalign_reward
from reward import HyperAlignConfig
from reward.backbone.fetching import MissingWeightsError
from reward.cli.main import find_pictures, main
from reward.images.preprocess import ImageTransform
from reward.parallel.processes import Processes

ROOT = Path(__file__).parents[3]


class Redness(torch.nn.Module):
    """Stands for HyperAlignReward: the score of a picture is how red it is."""

    loaded: list = []
    asked: list = []

    def __init__(self):
        super().__init__()
        self.config = HyperAlignConfig()
        self.backbone = types.SimpleNamespace(
            transform=ImageTransform(size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1)),
            clear_cache=lambda: None, device=torch.device("cpu"), model_config={}, preprocess_config={},
        )  # fmt: skip

    @classmethod
    def from_pretrained(cls, model, device=None):
        cls.loaded.append((model, device))
        return cls()

    def forward(self, images, prompts):
        assert len(images) == len(prompts)
        self.asked.append(list(prompts))
        return images[:, 0, 0, 0]


@pytest.fixture(autouse=True)
def redness(monkeypatch):
    Redness.loaded, Redness.asked = [], []
    monkeypatch.setattr(reward.hyperalign_reward, "HyperAlignReward", Redness)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


def picture(path, red, size=8):
    Image.new("RGB", (size, size), (red, 0, 0)).save(path)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, red in (("b.png", 255), ("a.jpg", 0), ("c.webp", 128)):
        picture(folder / name, red)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_score_writes_csv(pictures, tmp_path, capsys):
    output = tmp_path / "new" / "scores.csv"
    arguments = ["--prompt", 'red, "very"', "--model", "some/model", "--output", str(output)]
    assert main(["score", str(pictures), *arguments]) == 0
    rows = list(csv.DictReader(output.open()))
    assert [row["path"] for row in rows] == [str(pictures / name) for name in ("a.jpg", "b.png", "c.webp")]
    assert rows[1] == {"path": str(pictures / "b.png"), "prompt": 'red, "very"', "score": "1.0"}
    assert Redness.loaded == [("some/model", torch.device("cpu"))]
    captured = capsys.readouterr()
    assert "3 scores in" in captured.out and "3/3" in captured.err
    assert [path.name for path in output.parent.iterdir()] == ["scores.csv"]


def test_score_writes_jsonl(pictures, tmp_path):
    output = tmp_path / "scores.jsonl"
    one = str(pictures / "b.png")
    assert main(["score", one, "--prompt", "rouge é", "--model", "m", "--output", str(output)]) == 0
    assert json.loads(output.read_text()) == {"path": str(pictures / "b.png"), "prompt": "rouge é", "score": 1.0}
    assert "é" in output.read_text()


def test_score_writes_parquet(pictures, tmp_path):
    from pyarrow import parquet

    output = tmp_path / "scores.parquet"
    assert main(["score", str(pictures), "--prompt", "red", "--model", "m", "--output", str(output), "--quiet"]) == 0
    table = parquet.read_table(output)
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "double"]
    assert table.to_pylist()[1] == {"path": str(pictures / "b.png"), "prompt": "red", "score": 1.0}


def test_score_prints_without_an_output(pictures, capsys):
    assert main(["score", str(pictures / "b.png"), "--prompt", "red", "--model", "m", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"path,prompt,score\n{pictures / 'b.png'},red,1.0\n"
    assert Redness.loaded == [("m", "cpu")]


def test_a_table_has_a_prompt_for_each_picture(pictures, tmp_path, capsys):
    table = tmp_path / "pairs.csv"
    table.write_text('id,prompt,image\n7,red,pictures/b.png\n8,"black, or so",pictures/a.jpg\n')
    for arguments in (["--table", str(table)], [str(table)]):
        assert main(["score", *arguments, "--model", "m"]) == 0
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert [(row["path"], row["prompt"]) for row in rows] == [
            (str(pictures / "b.png"), "red"), (str(pictures / "a.jpg"), "black, or so"),
        ]  # fmt: skip
        assert Redness.asked.pop() == ["red", "black, or so"]


def test_rank_prints_the_best_first(pictures, capsys):
    assert main(["rank", str(pictures), "--prompt", "red", "--model", "m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert [line.rsplit("/")[-1] for line in lines] == ["b.png", "c.webp", "a.jpg"]


def test_many_pictures_are_scored_in_batches_and_in_order(tmp_path, capsys):
    for index in range(35):
        picture(tmp_path / f"{index:02d}.png", index)
    assert main(["score", str(tmp_path), "--prompt", "red", "--model", "m", "--batch-size", "4"]) == 0
    scores = [float(row["score"]) for row in csv.DictReader(capsys.readouterr().out.splitlines())]
    assert scores == pytest.approx([index / 255 for index in range(35)])
    assert {len(batch) for batch in Redness.asked} == {4, 3}


@pytest.mark.parametrize("suffix", ["csv", None])
def test_unreadable_pictures_are_listed_last_and_good_scores_kept(pictures, tmp_path, capsys, suffix):
    (pictures / "b2.png").write_bytes((pictures / "b.png").read_bytes()[:40])
    (pictures / "empty.png").touch()
    output = tmp_path / "scores.csv"
    arguments = ["score", str(pictures), "--prompt", "red", "--model", "m"]
    assert main([*arguments, "--output", str(output)] if suffix else arguments) == 1
    captured = capsys.readouterr()
    text = output.read_text() if suffix else captured.out
    assert [Path(row["path"]).name for row in csv.DictReader(text.splitlines())] == ["a.jpg", "b.png", "c.webp"]
    listed = captured.err.split("pictures have no score:\n")[1]
    assert f"{pictures / 'b2.png'}" in listed and f"{pictures / 'empty.png'}" in listed and "c.webp" not in listed


def test_rank_lists_what_it_cannot_read(pictures, capsys):
    (pictures / "d.png").write_text("no picture")
    assert main(["rank", str(pictures), "--prompt", "red", "--model", "m"]) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3 and "1 of 4 pictures have no score" in captured.err


def test_tinyworld_is_the_built_in_model(pictures, monkeypatch):
    world = types.ModuleType("tinyworld")
    world.weights_path = lambda name: f"/weights/{name}"
    monkeypatch.setitem(sys.modules, "tinyworld", world)
    assert main(["rank", str(pictures), "--prompt", "red", "--model", "tinyworld"]) == 0
    assert Redness.loaded == [("/weights/hyperalign", torch.device("cpu"))]


@pytest.mark.parametrize("command", ["score", "rank", "explain", "evaluate"])
def test_without_a_model_it_is_clip_and_never_the_coloured_shapes(pictures, tmp_path, capsys, monkeypatch, command):
    def from_backbone(name, pretrained=None, device=None):
        raise MissingWeightsError(f"{name} {pretrained}: neither cached nor reachable")

    monkeypatch.setattr(Redness, "from_backbone", from_backbone, raising=False)
    words = {
        "explain": ["explain", str(pictures / "b.png"), "--prompt", "red"],
        "evaluate": ["evaluate", "--dataset", "table", "--data", str(pictures), "--output", str(tmp_path / "o")],
    }
    assert main(words.get(command, [command, str(pictures), "--prompt", "red"])) == 2
    assert "ViT-B-16 openai: neither cached nor reachable" in capsys.readouterr().err
    assert Redness.loaded == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "{folder}", "--prompt", "x", "--output", "scores.xlsx"], "or .parquet, got scores.xlsx"),
        (["score", "{folder}", "--prompt", "x", "--output", "{folder}/dir.csv"], "is a folder"),
        (["score", "{folder}/missing.png", "--prompt", "x"], "found nothing at"),
        (["score", "--table", "{folder}/missing.csv"], "found none at"),
        (["score", "--table", "{folder}/bad.csv"], "column prompt or text or caption but there is image"),
        (["score", "--table", "{folder}/none.csv"], "the table has no rows"),
        (["score", "--table", "{folder}/none.csv", "--prompt", "x"], "whose rows have their own"),
        (["score", "--prompt", "x"], "Expected pictures, a folder or a table to score, got none"),
        (["rank", "{folder}/empty", "--prompt", "x"], "Expected pictures (.bmp"),
        (["evaluate", "--dataset", "tab", "--data", "{folder}", "--output", "o", "--config", "a", "--model", "m"],
         "got both"),
        (["train", "--dataset", "table", "--data", "{folder}", "--output", "o", "--set", "epoch=3"], "did you mean"),
        (["train", "--dataset", "table", "--data", "{folder}", "--output", "o", "--set", "epochs"], "FIELD=VALUE"),
        (["train", "--dataset", "table", "--data", "{folder}", "--output", "o", "--set", "epochs=3", "--set",
          "epochs=4"], "Expected one value of --set epochs but got 3 and 4"),
        (["train", "--dataset", "table", "--data", "{folder}", "--output", "o", "--columns", "score=a", "--columns",
          "score=b"], "Expected one column for 'score' in --columns but got 'a' and 'b'"),
        (["train", "--dataset", "table", "--data", "{folder}", "--output", "o", "--backbone", "a", "--set",
          "model.backbone=b"], "Expected one backbone but got 'b' and 'a'"),
        (["evaluate", "--dataset", "table", "--data", "{folder}", "--output", "o", "--backbone", "a"],
         "--backbone only beside --config"),
        (["evaluate", "--dataset", "agiqa-3k", "--data", "{folder}", "--output", "o", "--columns", "score=a"],
         "--columns only of a table"),
    ],
)  # fmt: skip
def test_wrong_input_is_a_message_and_exit_2(pictures, capsys, arguments, message):
    (pictures / "empty").mkdir()
    (pictures / "dir.csv").mkdir()
    (pictures / "bad.csv").write_text("image\na.jpg\n")
    (pictures / "none.csv").write_text("image,prompt\n")
    assert main([argument.format(folder=pictures) for argument in arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"hyperalign {arguments[0]}: ") and message in error
    assert Redness.loaded == []


@pytest.mark.parametrize(
    "arguments",
    [[], ["score", "x.png"], ["score", "x.png", "--pro", "y"], ["sing"], ["rank", "x.png"],
     ["score", "x.png", "--prompt", "a ring", "--prompt", "a square"]],
)
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: hyperalign" in capsys.readouterr().err


def test_several_processes_cannot_share_the_standard_output(pictures, capsys, monkeypatch):
    monkeypatch.setattr(Processes, "start", classmethod(lambda cls: (cls(0, 2), torch.device("cpu"))))
    assert main(["score", str(pictures), "--prompt", "red"]) == 2
    assert "Expected --output FILE" in capsys.readouterr().err


def test_control_c_is_no_traceback(pictures, capsys, monkeypatch):
    def interrupted(self, images, prompts):
        raise KeyboardInterrupt

    monkeypatch.setattr(Redness, "forward", interrupted)
    assert main(["score", str(pictures), "--prompt", "red", "--model", "m"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_sigterm_is_no_traceback_and_the_earlier_handler_comes_back(pictures, tmp_path, capsys, monkeypatch):
    def terminated(self, images, prompts):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(Redness, "forward", terminated)
    before = signal.getsignal(signal.SIGTERM)
    words = ["score", str(pictures), "--prompt", "red", "--model", "m", "--output", str(tmp_path / "s.csv")]
    assert main(words) == 143
    assert "stopped by SIGTERM. What is scored is kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_is_a_message_that_says_how_to_go_on(pictures, tmp_path, capsys, monkeypatch):
    def full(temporary, records):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("reward.scoring.parts._write_csv", full)
    output = tmp_path / "s.csv"
    assert main(["score", str(pictures), "--prompt", "red", "--model", "m", "--output", str(output), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert f"hyperalign score: [Errno 28] No space left on device: '{output}'" in error
    assert "run the same command again" in error


def test_files_and_folders_mix(pictures):
    found = find_pictures([pictures / "notes.txt", pictures])
    assert [path.name for path in found] == ["notes.txt", "a.jpg", "b.png", "c.webp"]


def test_help_costs_no_torch():
    code = "import sys\nfrom reward.cli.arguments import build_parser\nbuild_parser().format_help()\n"
    code += "import reward.cli.main\nprint({'torch', 'open_clip', 'pyarrow', 'tinyworld'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
