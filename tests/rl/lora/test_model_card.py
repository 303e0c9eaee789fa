import json

import pytest
import yaml
from PIL import Image

from rl.lora.model_card import TrainingRecord, published_name, write_card


def record(**changes):
    values = dict(
        base_model="owner/base", prompts="scenes:train", rewards=["hyperalign:judge=1.0"], rank=4, alpha=16.0,
        targets=["to_q"], epochs=20, optimizer_steps=40, averaged=False, run=None, final=True,
    )
    return TrainingRecord(**(values | changes))


def card(folder, record, relation="adapter"):
    folder.mkdir(exist_ok=True)
    path = write_card(
        folder, "red", record, license="other", usage="Load it.", library="diffusers", relation=relation
    )
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("", ""),
        ("owner/name", "owner/name"),
        ("tinyworld:stable-diffusion", "tinyworld:stable-diffusion"),
        ("my_rewards:redness=2.0", "my_rewards:redness=2.0"),
        ("/data/models/base", "base"),
        ("hyperalign:/data/models/judge=0.5", "hyperalign:judge=0.5"),
        ("hyperalign:tinyworld:hyperalign=1.0", "hyperalign:tinyworld:hyperalign=1.0"),
        ("../prompts/mine.txt", "mine.txt"),
        ("my_rewards:judge@/data/models/eyes=2.0", "my_rewards:judge@eyes=2.0"),
        ("my_rewards:judge@tinyworld:llava", "my_rewards:judge@tinyworld:llava"),
        ("hyperalign:/data/me@home/models/judge", "hyperalign:judge"),
    ],
)
def test_no_folder_of_this_machine_is_published(name, published):
    assert published_name(name) == published


def test_a_relative_folder_that_is_there_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert published_name("models/base") == "base"


def test_a_record_alone_makes_a_card(tmp_path):
    text = card(tmp_path / "out", record(optimizer_steps=None))
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "other" and front["base_model"] == "owner/base"
    assert front["base_model_relation"] == "adapter" and front["library_name"] == "diffusers"
    assert "| rank, alpha | 4, 16 |" in text and "| optimiser steps | not recorded |" in text
    assert "## Use\n\nLoad it." in text and "## Samples" not in text and "## Result" not in text


def test_results_and_pictures_of_the_run(tmp_path):
    run = tmp_path / "run"
    (run / "samples" / "evaluation").mkdir(parents=True)
    for name in ("epoch_000001", "epoch_000010", "epoch_000020", "evaluation/base_000", "evaluation/lora_000"):
        Image.new("RGB", (4, 4)).save(run / "samples" / f"{name}.png")
    (run / "summary.json").write_text(json.dumps({"reward_base": 0.25, "reward_lora": 0.5, "alone_base": 1}))
    example = {"prompt": "a | b\nc", "base": "samples/evaluation/base_000.png",
               "lora": "samples/evaluation/lora_000.png"}
    missing = example | {"base": "samples/evaluation/gone.png"}
    (run / "evaluation.json").write_text(json.dumps({"examples": [example, missing]}))
    text = card(tmp_path / "out", record(run=run))
    assert "| reward | 0.25 | 0.5 |" in text and "alone" not in text
    assert "| a \\| b c | ![base_000](samples/evaluation/base_000.png) |" in text and "gone" not in text
    copied = sorted(path.name for path in (tmp_path / "out").rglob("*.png"))
    assert copied == ["base_000.png", "epoch_000001.png", "epoch_000020.png", "lora_000.png"]
    early = card(tmp_path / "early", record(run=run, epochs=10, final=False))
    assert "epoch_000010" in early and "epoch_000020" not in early and "## Result" not in early
