"""Every example that --help shows is run, in order, as it stands there."""

import contextlib
import io
import json
import re
import shlex

import pytest

from reward.cli import main as cli
from reward.cli.arguments import build_parser
from reward.cli.train import training_config
from tinyworld import rated_pictures


def help_of(command):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as stop:
        build_parser().parse_args([command, "--help"])
    assert stop.value.code == 0
    return shown.getvalue()


def examples_of(command):
    lines = help_of(command).split("examples:\n")[1].split("\n\n")[0].splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples run; the pictures are drawn once."""
    folder = tmp_path_factory.mktemp("examples")
    rated_pictures.write_rated_pictures(folder / "pictures", count=60)
    return folder


def run(words):
    if words[:3] == ["python", "-m", "tinyworld.rated_pictures"]:
        assert words[3:] == ["pictures"]
        return
    assert words[0] == "hyperalign"
    assert cli.main(words[1:]) == 0, words


@pytest.mark.parametrize("command", ["score", "rank", "train", "evaluate", "explain", "models"])
def test_the_examples_of_help_work(command, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    examples = examples_of(command)
    assert any(words[:2] == ["hyperalign", command] for words in examples)
    for words in examples:
        run(words)
    said = capsys.readouterr().out
    if command == "score":
        assert (folder / "scores.csv").read_text().count("\n") == 61 and (folder / "scores.parquet").exists()
        assert said.startswith("path,prompt,score\npictures/000.png,")
    if command == "rank":
        scores = [float(line.split()[1]) for line in said.splitlines()]
        assert len(scores) == 60 and scores == sorted(scores, reverse=True)
    if command == "train":
        assert "test part of table, model: SRCC" in said and "text-blind" in said
        assert (folder / "mine" / "config.json").exists()
    if command == "evaluate":
        metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
        # the shipped head was trained on other pictures of this world
        assert metrics["srcc"] > 0.5 and metrics["pairs"] == 60
        assert {"krcc", "plcc", "plcc_logistic", "pairwise_accuracy", "within_prompt_srcc", "srcc_ci"} <= set(metrics)
        assert metrics["others"]["shuffled prompts"]["control"] is True
        assert {path.name for path in (folder / "evaluation").iterdir()} == {
            "metrics.json", "summary.json", "results.csv", "predictions.csv", "report.html", "report.md",
            "scatter.png",
        }  # fmt: skip
    if command == "models":
        assert "tinyworld" in said and "ViT-B-32/laion2b_s34b_b79k" in said
    if command == "explain":
        assert "The score is" in said and (folder / "explanation.png").stat().st_size > 10_000


def test_options_of_several_values_add_up():
    words = ["train", "--dataset", "table", "--data", "d", "--output", "o", "--set", "epochs=12", "--set",
             "batch_size=256", "patience=0", "--columns", "score=mos", "--columns", "image=file"]  # fmt: skip
    arguments = build_parser().parse_args(words)
    assert arguments.columns == ["score=mos", "image=file"]
    config = training_config(None, arguments.set, None)
    assert (config.epochs, config.batch_size, config.patience) == (12, 256, 0)
    # the default is replaced, not added to, and a second parse starts anew
    assert build_parser().parse_args(words[:7]).set == []


def test_a_value_may_be_repeated_but_not_changed(capsys):
    words = ["rank", "x.png", "--prompt", "a ring", "--prompt"]
    assert build_parser().parse_args([*words, "a ring"]).prompt == "a ring"
    with pytest.raises(SystemExit):
        build_parser().parse_args([*words, "a square"])
    assert "argument --prompt: given twice, as 'a ring' and as 'a square'; give it once" in capsys.readouterr().err


def test_train_help_lists_every_field_of_a_recipe():
    shown = help_of("train")
    assert re.search(r"^  epochs=20 +Largest number of epochs", shown, re.M)
    assert re.search(r"^  model.entailment=\w+ ", shown, re.M) and "embed_dim" not in shown
