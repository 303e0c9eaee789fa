"""Names from files and recipes that would lead out of the folder they belong to."""

import json

import pytest

from attention_refine.caption_check.run import find_run_rows
from benchmarks.fuzz.folders import Loras
from benchmarks.fuzz.guard import guarded
from reward.datasets import load_dataset
from reward.scoring.inputs import find_rows
from reward.scoring.score import split_rows
from rl.config.ddpo_config import DDPOConfig
from rl.lora.export import export_lora
from rl.runs.metrics_file import RunReporter


def test_an_export_copies_no_picture_from_or_to_elsewhere(tmp_path):
    target = Loras(tmp_path / "case")
    run, output = target.run_folder, target.output
    (tmp_path / "secret.png").write_bytes(b"secret")
    (run / "samples" / "epoch_2.png").symlink_to(tmp_path / "secret.png")
    outside = ("../../secret.png", str(tmp_path / "secret.png"), "samples/../../../secret.png", "samples/epoch_2.png")
    for name in (*outside, "config.yaml", "a\0.png"):
        example = {"prompt": "x", "base": "samples/epoch_1.png", "lora": name}
        (run / "evaluation.json").write_text(json.dumps({"examples": [example]}))
        with guarded(tmp_path / "case"):
            try:
                export_lora(run, "peft", output, license="other", resolve=lambda name: "/nowhere")
            except ValueError as error:
                assert "\0" in name and "evaluation.json as a run writes it" in str(error)
                continue
        held = [path for path in output.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
        assert b"secret" not in b"".join(path.read_bytes() for path in held)
        assert sorted(path.name for path in held) == ["README.md", "adapter_config.json", "epoch_1.png"]
        for path in sorted(output.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", ["../x", "a/b", "/tmp/x", "..", "a\\b", "", "a\0"])
def test_a_tracker_project_is_no_path(name):
    with pytest.raises(ValueError, match="tracker_project_name: expected a name and no path"):
        DDPOConfig(tracker_project_name=name)


@pytest.mark.parametrize("name", ["../logs", "a/../../b", "..", "a\0"])
def test_a_tracker_folder_lies_inside_the_run(name):
    with pytest.raises(ValueError, match="logdir: expected a folder inside output_dir"):
        DDPOConfig(logdir=name)
    assert DDPOConfig(logdir="/var/logs").logdir == "/var/logs"


def test_a_grid_lies_below_samples(tmp_path):
    import torch

    reporter = RunReporter(tmp_path / "run")
    for name in ("../../x", "/tmp/x", "a/../../../x"):
        with guarded(tmp_path / "run"), pytest.raises(ValueError, match="below samples/"):
            reporter.save_grid(name, torch.zeros(1, 3, 4, 4), ["../../x"])


def test_a_checked_picture_lies_in_its_run(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("../secret.png", str(tmp_path / "secret.png"), "a/../../secret.png"):
        (run / "evaluation.json").write_text(json.dumps({"examples": [{"base": name, "lora": name, "prompt": "x"}]}))
        with pytest.raises(ValueError, match="outside the run"):
            find_run_rows(run)


@pytest.mark.parametrize("name", ["\0", "a\0.png", "x" * 5000, "x" * 300, "../" * 2000])
def test_a_table_names_a_picture_that_cannot_be(tmp_path, name):
    line = json.dumps({"image": name, "prompt": "x", "score": 1})
    (tmp_path / "a.png").write_bytes(b"x")
    good = json.dumps({"image": "a.png", "prompt": "x", "score": 1})
    (tmp_path / "t.jsonl").write_text(f"{line}\n{good}\n")
    dataset = load_dataset("table", tmp_path / "t.jsonl", skip_bad=True)
    assert len(dataset) == 1 and "line 1: expected" in dataset.bad[0]
    [part] = split_rows(find_rows([tmp_path / "t.jsonl"]), 4, "")
    assert len(part.rows) == 2


def test_a_picture_with_a_nul_in_its_name_is_one_that_cannot_be_read(tmp_path):
    from PIL import Image

    from reward import HyperAlignReward
    from reward.scoring.score import score_to_file
    from tinyworld import weights_path

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    rows = [{"image": name, "prompt": "a\0 ring"} for name in ("a.png", "b\0.png", "../../../etc/passwd")]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reward = HyperAlignReward.from_pretrained(weights_path("hyperalign"))
    with guarded(tmp_path):
        count, problems = score_to_file(
            reward, find_rows([tmp_path / "t.jsonl"]), tmp_path / "s.csv", progress=False
        )
        assert (count.scored, count.unreadable, len(list(problems))) == (1, 2, 2)
