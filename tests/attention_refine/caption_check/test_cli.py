"""The command from end to end, on a random captioner: what it says is noise, what becomes of it is not."""

import csv
import json

import numpy as np
import pandas
import pytest
from PIL import Image

from attention_refine.caption_check import cli
from attention_refine.caption_check import run as check_run
from attention_refine.caption_check.captioner import Captioner
from attention_refine.caption_check.cli import main
from tests.attention_refine.tiny_captioner import save_tiny_captioner

PROMPTS = ["a red ring", "two red rings", "a blue square", "a red ring left of a blue square", "a square", "a ring"]
OPTIONS = ["--quiet", "--max-new-tokens", "4", "--device", "cpu"]


def draw(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny_captioner(tmp_path_factory.mktemp("captioner")))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = ["file_name,prompt"]
    for number, prompt in enumerate(PROMPTS):
        draw(folder / f"{number}.png", number)
        lines.append(f"{number}.png,{prompt}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(*arguments, model):
    return main([*map(str, arguments), "--model", model, *OPTIONS])


def results(folder):
    return {name: (folder / name).read_bytes() for name in ("checks.csv", "checks.jsonl", "summary.json", "index.html")}


def test_a_folder(pictures, model, tmp_path, capsys):
    assert run(pictures, "--output", tmp_path / "out", model=model) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "checks.csv").open(encoding="utf-8")))
    records = [json.loads(line) for line in (tmp_path / "out" / "checks.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == PROMPTS == [record["own"]["prompt"] for record in records]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    own = np.mean([float(row["prompt_yes"]) for row in rows])
    control = np.mean([float(row["control_prompt_yes"]) for row in rows])
    assert summary["prompt_yes"]["own"] == pytest.approx(own, abs=1e-5)
    assert summary["prompt_yes"]["margin"] == pytest.approx(own - control, abs=1e-5)
    low, high = summary["prompt_yes"]["margin_ci"]
    assert low < summary["prompt_yes"]["margin"] < high
    assert all(row["control_prompt"] in PROMPTS and row["control_prompt"] != row["prompt"] for row in rows)
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<article") == len(PROMPTS) and "<h1>Caption check of pictures</h1>" in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(results(tmp_path / "out"))
    assert "6 pictures checked" in capsys.readouterr().out


def test_interrupted_and_run_again_it_is_the_uninterrupted_run(pictures, model, tmp_path, monkeypatch):
    monkeypatch.setattr(check_run, "PART_BATCHES", 1)
    monkeypatch.setattr("reward.scoring.score.PART_BATCHES", 1)
    command = (pictures, "--batch-size", 2)
    run(*command, "--output", tmp_path / "whole", model=model)
    asked, ask = [], Captioner.captions

    def stop_after_two(self, images, instruction):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(images))
        return ask(self, images, instruction)

    with monkeypatch.context() as patch:
        patch.setattr(Captioner, "captions", stop_after_two)
        assert run(*command, "--output", tmp_path / "out", model=model) == cli.INTERRUPTED
    assert not (tmp_path / "out" / "checks.csv").exists()
    monkeypatch.setattr(Captioner, "captions", lambda self, *given: asked.append("again") or ask(self, *given))
    assert run(*command, "--output", tmp_path / "out", model=model) == 0
    assert asked == [2, 2, "again"]
    assert results(tmp_path / "out") == results(tmp_path / "whole")


@pytest.mark.parametrize("options", [("--question", "Is there {}?"), ("--exactly-one",)])
def test_another_question_is_another_run(pictures, model, tmp_path, monkeypatch, options):
    monkeypatch.setattr(check_run, "PART_BATCHES", 1)
    monkeypatch.setattr("reward.scoring.score.PART_BATCHES", 1)
    (pictures / "5.png").write_bytes(b"no picture")  # so that the parts of the others are kept
    texts = []
    for folder, asked in (("out", ()), ("out", options), ("fresh", options)):
        command = (pictures, "--batch-size", 2, "--output", tmp_path / folder, *asked)
        assert run(*command, model=model) == cli.SOME_UNREADABLE
        texts.append((tmp_path / folder / "checks.jsonl").read_text())
    assert texts[0] != texts[1] == texts[2]


def test_unreadable_pictures_are_listed_and_mended(pictures, model, tmp_path, capsys):
    (pictures / "1.png").write_bytes(b"no picture")
    assert run(pictures, "--output", tmp_path / "out", model=model) == cli.SOME_UNREADABLE
    message = capsys.readouterr().err
    assert "1 of 6 pictures could not be read" in message and "1.png" in message
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["unreadable"] == 1
    draw(pictures / "1.png", 1)
    assert run(pictures, "--output", tmp_path / "out", model=model) == 0
    assert len((tmp_path / "out" / "checks.csv").read_text().splitlines()) == 1 + len(PROMPTS)


def test_a_run(model, tmp_path, capsys):
    folder = tmp_path / "run" / "samples" / "evaluation"
    folder.mkdir(parents=True)
    examples = []
    for place, prompt in enumerate(PROMPTS):
        for number, side in enumerate(("base", "lora")):
            draw(folder / f"{side}_{place:03d}.png", 10 * place + number)
        examples.append({"prompt": prompt, "seed": place, "reward_base": 0.25, "reward_lora": 0.5 + 0.01 * place} | {
            side: f"samples/evaluation/{side}_{place:03d}.png" for side in ("base", "lora")
        })  # fmt: skip
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps({"examples": examples}))
    assert run("--run", tmp_path / "run", "--output", tmp_path / "out", model=model) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = list(csv.DictReader((tmp_path / "out" / "checks.csv").open()))
    sides = {side: [float(row["questions_yes"]) for row in rows if row["side"] == side] for side in ("base", "lora")}
    gain = np.mean(sides["lora"]) - np.mean(sides["base"])
    assert summary["questions_yes"]["gain"] == pytest.approx(gain, abs=1e-5)
    assert summary["reward"]["gain"] == pytest.approx(0.275) and summary["reward"]["gain_ci"][0] > 0.25
    assert "gain" in capsys.readouterr().out


def test_own_questions_and_contrastive_attention(pictures, model, tmp_path):
    path = tmp_path / "dsg.json"
    path.write_text(json.dumps([{"prompt": "a square", "questions": ["Is there a square ?", "Is there a ring ?"]}]))
    options = ("--questions", path, "--contrastive", "attention_bias", "--no-control", "--output", tmp_path / "out")
    assert run(pictures, *options, model=model) == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "checks.jsonl").read_text().splitlines()]
    assert all(record["control"] is None for record in records)
    answers = {record["prompt"]: [answer["question"] for answer in record["own"]["answers"]] for record in records}
    assert answers["a square"] == ["Is there a square ?", "Is there a ring ?"]
    assert answers["a ring"] == ["Is there a ring in the picture?"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["--run", "nowhere"], "evaluation.json"),
        (["--run", "nowhere", "--prompt", "a ring"], "either --run or pictures"),
        (["{pictures}", "--questions", "nowhere.csv"], "found none at nowhere.csv"),
        (["{pictures}", "--questions", "{others}"], "must be the same to the letter"),
        (["{pictures}", "--question", "Is it?"], "in the place of what is asked for"),
    ],
)
def test_what_is_wrong_is_said(pictures, model, tmp_path, capsys, arguments, message):
    others = tmp_path / "others.csv"
    others.write_text("prompt,question\na cat,Is there a cat?\n")
    arguments = [argument.format(pictures=pictures, others=others) for argument in arguments]
    try:
        code = run(*arguments, "--output", tmp_path / "out", model=model)
    except SystemExit as stopped:
        code = stopped.code
    assert code == cli.WRONG_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "checks.csv").exists()


def test_a_run_shows_only_its_own_pictures(model, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    draw(tmp_path / "outside.png", 0)
    example = {"prompt": "a ring", "base": "../outside.png", "lora": "../outside.png"}
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps({"examples": [example]}))
    assert run("--run", tmp_path / "run", "--output", tmp_path / "out", model=model) == cli.WRONG_INPUT
    assert "outside the run" in capsys.readouterr().err


def test_no_model_names_both_ways_out(pictures, tmp_path, capsys):
    assert main([str(pictures), "--output", str(tmp_path / "out"), *OPTIONS]) == cli.WRONG_INPUT
    error = capsys.readouterr().err
    assert "llava-hf/llava-1.5-7b-hf" in error and "tinyworld" in error


def test_pictures_inside_a_table(pictures, model, tmp_path, capsys):
    cells = [{"bytes": (pictures / f"{n}.png").read_bytes(), "path": f"{n}.png"} for n in range(len(PROMPTS))]
    pandas.DataFrame({"photo": cells, "words": PROMPTS}).to_parquet(tmp_path / "t.parquet")
    words = ("--image-column", "photo", "--prompt-column", "words")
    assert run(tmp_path / "t.parquet", *words, "--output", tmp_path / "inside", model=model) == 0
    assert "image from 'photo', prompt from 'words'" in capsys.readouterr().err
    assert run(pictures, "--output", tmp_path / "files", model=model) == 0
    inside, files = (list(csv.DictReader((tmp_path / name / "checks.csv").open())) for name in ("inside", "files"))
    assert [row.pop("path") for row in inside] == [f"{tmp_path / 't.parquet'}#{n + 1}/{n}.png" for n in range(6)]
    assert inside == [{key: value for key, value in row.items() if key != "path"} for row in files]
    assert (tmp_path / "inside" / "index.html").read_text().count("<img") == len(PROMPTS)
