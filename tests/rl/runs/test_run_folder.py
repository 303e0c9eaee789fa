import json

import pytest
import torch
from PIL import Image

from rl.config.ddpo_config import DDPOConfig
from rl.rewards.loading import NonFiniteRewardError
from rl.runs.run_folder import make_accelerator, prepare_run_folder, save_failure, start_trackers


def test_an_earlier_run_is_moved_aside(tmp_path, capsys):
    run = tmp_path / "demo"
    for number in range(3):
        prepare_run_folder(run, None)
        (run / "config.yaml").write_text(str(number))
    assert (tmp_path / "demo.previous-1" / "config.yaml").read_text() == "0"
    assert (tmp_path / "demo.previous-2" / "config.yaml").read_text() == "1"
    assert "demo.previous-2" in capsys.readouterr().out
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", "samples"]


def test_a_resumed_run_stays(tmp_path):
    prepare_run_folder(tmp_path, None)
    (tmp_path / "config.yaml").write_text("kept")
    prepare_run_folder(tmp_path, tmp_path / "checkpoints" / "checkpoint_3")
    assert (tmp_path / "config.yaml").read_text() == "kept"


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="Choose another output_dir"):
        prepare_run_folder(tmp_path, None)


def test_what_a_kill_at_the_very_start_leaves_is_no_obstacle(tmp_path):
    run = tmp_path / "run"
    prepare_run_folder(run, None)
    (run / ".config.yaml.7.tmp").write_text("half")
    prepare_run_folder(run, None)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_failure_keeps_pictures_and_prompts(tmp_path):
    images = torch.rand(2, 3, 4, 4)
    images[1, 0, 0, 0] = float("nan")
    error = NonFiniteRewardError("Expected finite", images, ("a", "b"), torch.tensor([0.5, float("nan")]))
    folder = save_failure(tmp_path, 0, 4, error)
    record = json.loads((folder / "process0.json").read_text())
    assert record["epoch"] == 5
    assert [row["prompt"] for row in record["pictures"]] == ["a", "b"]
    assert record["pictures"][1]["reward"] == "nan"
    assert Image.open(folder / record["pictures"][1]["picture"]).size == (4, 4)


def test_tracker_choice(tmp_path, monkeypatch):
    def trackers(**changes):
        return make_accelerator(DDPOConfig(output_dir=str(tmp_path / "run"), **changes)).log_with

    assert [str(tracker.value) for tracker in trackers()] == ["tensorboard"]
    assert trackers(log_with=None) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert trackers() == []


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_trackers_get_the_runs_name_and_wandb_its_folder(tmp_path, tracker):
    class Stub:
        log_with = [tracker]
        is_main_process = True
        logging_dir = str(tmp_path / "run" / "logs")

        def init_trackers(self, project, init_kwargs):
            self.seen = (project, init_kwargs)

    stub = Stub()
    start_trackers(stub, DDPOConfig(run_name="mine", tracker_project_name="p"))
    folder = {"wandb": {"dir": stub.logging_dir}, "trackio": {}}[tracker]
    assert stub.seen == ("p", {tracker: {"name": "mine"} | folder})
    assert (tmp_path / "run" / "logs").is_dir() == (tracker == "wandb")
    start_trackers(stub, DDPOConfig(tracker_kwargs={tracker: {"name": "own"}}))
    assert stub.seen[1] == {tracker: {"name": "own"}}


def test_threads(tmp_path):
    before = torch.get_num_threads()
    try:
        make_accelerator(DDPOConfig(output_dir=str(tmp_path), num_threads=2, log_with=None))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
