"""The four commands on tiny models: how one is started and gone on with, and when two of its results are the same."""

import csv
import json
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.trainer_flags import changed
from tests.faults.processes import Run, call, start_server

EPOCHS = 4
COMMANDS = ("score", "train", "ddpo", "direct")
TRAINERS = ("ddpo", "direct")
_MODULES = {
    "score": "reward.cli.main", "train": "reward.cli.main", "ddpo": "rl.ddpo_train", "direct": "rl.direct_train",
}  # fmt: skip
_SHARED = f"""rewards: ['tests.faults.toys:noisy_redness']
prompts: tests.faults.toys:prompts
num_epochs: {EPOCHS}
save_freq: 1
num_checkpoint_limit: 3
sample_num_steps: 2
sample_guidance_scale: 1.0
sample_batch_size: 4
sample_num_batches_per_epoch: 2
sample_group_size: 4
lora_rank: 2
ema_decay: 0.9
lr_schedule: cosine
log_with: null
"""
_RECIPES = {
    "ddpo": "train_batch_size: 4\ntrain_gradient_accumulation_steps: 2\nper_prompt_stat_tracking: true\n",
    "direct": "train_kl_weight: 0.1\n",
}


@dataclass(frozen=True)
class World:
    """A folder with everything the commands need, and `whole/COMMAND`: what undisturbed runs leave.

    changes: how many moments `harm.killed_before_change` can choose from in an undisturbed run.
    """

    folder: Path
    changes: dict[str, int]

    def start(
        self, command: str, output: Path, *, extra: tuple = (), environment: dict[str, str] | None = None, **harms: Any
    ) -> Run:
        """Start a command, or go on with what is in its `output`, as its documentation says."""
        if command == "score":
            words = ["score", "--table", self.folder / "pictures" / "scores.csv", "--model", self.folder / "model"]
            words += ["--output", output / "scores.csv", "--batch-size", 2, "--quiet"]
        elif command == "train":
            words = ["train", "--dataset", "table", "--data", self.folder / "pictures" / "scores.csv"]
            words += ["--backbone", f"local-dir:{self.folder / 'open-clip'}", "--cache", output / "cache"]
            words += ["--output", output / "run", "--quiet", "--set", f"epochs={EPOCHS}", "batch_size=24"]
            words += ["patience=0", "val_share=0.25", "controls=false"]
            words += ["--resume"] if (output / "run" / "training_state.safetensors").exists() else []
        else:
            words = ["--config", self.folder / f"{command}.yaml", "--output_dir", output / "run"]
            words += ["--resume_from", output / "run"] if checkpoints(output) else []
        # The processes of one run share what lies beside it.
        scratch = self.folder / "pipes"
        words, extra = [str(word) for word in words], [str(word) for word in extra]
        place = next(number for number, word in enumerate(words) if word.startswith("--"))
        words = [*words[:place], *changed(words[place:], extra)]
        return Run(_MODULES[command], words, scratch, environment, **harms)

    def whole(self, command: str) -> Path:
        """What an undisturbed run has left."""
        return self.folder / "whole" / command

    def finish(self, command: str, output: Path, **options: Any) -> Run:
        """Start, or go on, to the end.

        Raises:
            AssertionError: it does not end with 0.
        """
        run = self.start(command, output, **options)
        code = run.wait()
        assert code == 0, f"{command} ended with {code} and said: {run.said[-3000:]}"
        return run

    def unfinished(self, command: str, output: Path, random: Random) -> int:
        """Leave an unfinished run of at least one epoch (score: part) there; returns how many."""
        while True:
            moment = random.randrange(self.changes[command] // 4, self.changes[command])
            code = self.start(command, output, killed_before_change=(str(output), moment)).wait()
            done = done_epochs(command, output)
            if code == -signal.SIGKILL and done and not finished(command, output):
                return done
            shutil.rmtree(output)


def build_world(folder: Path) -> World:
    """Make the tiny models, and run each command undisturbed."""
    start_server()
    call(make_models, folder)
    world = World(folder, {})
    for command in COMMANDS:
        output, file = world.whole(command), folder / f"{command}.count"
        world.finish(command, output, changes_counted=(str(output), str(file)))
        assert not scratch_names(output), "Temporary files are left."
        world.changes[command] = int(file.read_text())
    return world


def make_models(folder: Path) -> None:
    """The tiny pipeline, the rated pictures, a HyperAlign model and the recipes."""
    from reward import HyperAlignReward
    from tests.conftest import build_tiny_pipeline
    from tests.reward.conftest import build_open_clip_folder, randomise_head, write_rated_table

    build_tiny_pipeline(folder).save_pretrained(folder / "pipeline")
    write_rated_table(folder / "pictures")
    build_open_clip_folder(folder / "open-clip")
    reward = HyperAlignReward.from_backbone(f"local-dir:{folder / 'open-clip'}", adapter_hidden=8)
    randomise_head(reward).save_pretrained(folder / "model")
    for command, own in _RECIPES.items():
        (folder / f"{command}.yaml").write_text(f"model: {folder / 'pipeline'}\n{_SHARED}{own}")


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints of ddpo and direct that are there under their names, oldest first."""
    found = [path for path in (output / "run" / "checkpoints").glob("*") if not path.name.startswith(".")]
    assert all(re.fullmatch(r"checkpoint_\d+", path.name) for path in found), found
    return sorted(found, key=lambda path: int(path.name.rpartition("_")[2]))


def assert_same(command: str, output: Path, expected: Path) -> None:
    """The results of a run are those of another, bit for bit, and nothing temporary is left.

    Raises:
        AssertionError: they differ.
    """
    if command == "score":
        assert (output / "scores.csv").read_bytes() == (expected / "scores.csv").read_bytes()
    elif command == "train":
        assert_same_tensors(output, expected, "run/model.safetensors")
        assert (output / "run/history.csv").read_text() == (expected / "run/history.csv").read_text()
        found, wanted = (json.loads((path / "run/metrics.json").read_text()) for path in (output, expected))
        assert found | {"seconds": 0} == wanted | {"seconds": 0}
    else:
        last = f"run/checkpoints/checkpoint_{EPOCHS}"
        for name in ("run", last):
            assert_same_tensors(output, expected, f"{name}/pytorch_lora_weights.safetensors")
        assert_same_tensors(output, expected, f"{last}/training_state.safetensors")
        assert timeless_rows(output) == timeless_rows(expected)
    assert scratch_names(output) == [], "Temporary files are left."


def assert_same_tensors(output: Path, expected: Path, name: str) -> None:
    one, two = load_file(output / name), load_file(expected / name)
    assert one.keys() == two.keys()
    differing = [key for key in one if not torch.equal(one[key].nan_to_num(7), two[key].nan_to_num(7))]
    assert not differing, f"{name}: {differing[:3]} differ"


def timeless_rows(output: Path) -> list[dict[str, str]]:
    """metrics.csv without what a clock has measured."""
    with open(output / "run" / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


def scratch_names(output: Path) -> list[str]:
    """Hidden files and folders: no finished run leaves any."""
    return sorted(str(path.relative_to(output)) for path in output.rglob(".*"))


def assert_whole(output: Path) -> None:
    """Whatever lies there under the name of a result can be read.

    Raises:
        AssertionError: half a file.
    """
    for path in output.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(output).parts)
        if hidden or not path.is_file():
            continue
        try:
            if path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".csv":
                with path.open(newline="") as file:
                    rows = list(csv.reader(file))
                assert {len(row) for row in rows} == {len(rows[0])}, "rows of different lengths"
            else:
                assert path.stat().st_size, "an empty file"
        except Exception as error:
            raise AssertionError(f"{path} is not whole: {error!r}") from error


def done_epochs(command: str, output: Path) -> int:
    """How many epochs (score: parts) would not have to be done again."""
    if command == "score":
        return len(list((output / ".scores.csv.parts").glob("[0-9]*.jsonl")))
    if command == "train":
        history = output / "run" / "history.csv"
        if history.exists():
            return len(history.read_text().splitlines()) - 1
        state = output / "run" / "training_state.safetensors"
        if not state.exists():
            return 0
        from reward.training.state import read_state

        return read_state(state)[1]["epoch"]
    return max((int(path.name.rpartition("_")[2]) for path in checkpoints(output)), default=0)


def finished(command: str, output: Path) -> bool:
    """Whether the run has come to its end."""
    return (output / {"score": "scores.csv", "train": "run/metrics.json"}.get(command, "run/summary.json")).exists()
