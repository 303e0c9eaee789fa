"""A real run, killed without warning at ten moments and resumed each time, ends as the uninterrupted one, bit for bit.

Run as a script, this file is that experiment: it imports everything once and forks a fresh process for each attempt.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
KILLS, EPOCHS = 10, 3
TOY = """
import torch
def noisy_redness(images, prompts, metadata):
    return images[:, 0].mean((1, 2)) + 0.1 * torch.rand(len(images)), {}
def prompts():
    return ["a red circle", "a blue square", "two dots"]
"""


def test_ten_kills_lose_nothing(tiny_pipeline_folder, tmp_path):
    (tmp_path / "toy_source.py").write_text(TOY)
    (tmp_path / "recipe.yaml").write_text(
        f"model: {tiny_pipeline_folder}\nrewards: ['toy_source:noisy_redness']\nprompts: toy_source:prompts\n"
        f"num_epochs: {EPOCHS}\nsave_freq: 1\nnum_checkpoint_limit: 2\nsample_num_steps: 3\nlora_rank: 4\n"
        "sample_guidance_scale: 1.0\nsample_batch_size: 4\nsample_num_batches_per_epoch: 2\nsample_group_size: 4\n"
        "train_batch_size: 4\ntrain_gradient_accumulation_steps: 2\nema_decay: 0.9\nlr_schedule: cosine\n"
        "per_prompt_stat_tracking: true\nper_prompt_stat_tracking_min_count: 2\nlog_with: null\n"
    )
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), str(tmp_path)], cwd=ROOT, timeout=400, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    record = json.loads((tmp_path / "record.json").read_text())
    assert len(record) == KILLS
    assert any(entry["scratch"] for entry in record), "No kill met a checkpoint that was being written."
    assert any(entry["epoch"] for entry in record), "No kill met a run that had a checkpoint."
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


def assert_equal_runs(first, second):
    for name in ("", f"checkpoints/checkpoint_{EPOCHS}"):
        one, two = (load_file(run / name / "pytorch_lora_weights.safetensors") for run in (first, second))
        assert one.keys() == two.keys() and all(one[key].equal(two[key]) for key in one)
    name = f"checkpoints/checkpoint_{EPOCHS}/training_state.safetensors"
    one, two = load_file(first / name), load_file(second / name)
    assert one.keys() == two.keys() and all(one[key].nan_to_num(7).equal(two[key].nan_to_num(7)) for key in one)
    assert timeless_rows(first) == timeless_rows(second)
    assert not [path.name for path in (second / "checkpoints").iterdir() if path.name.startswith(".")]


def timeless_rows(run):
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


def fork_run(folder, name):
    """Start or resume the run `name` in a forked process; returns its id."""
    from rl.ddpo_train import main
    from rl.runs.checkpoints import list_checkpoints

    run = folder / name
    words = ["--config", str(folder / "recipe.yaml"), "--output_dir", str(run)]
    if list_checkpoints(run):
        words += ["--resume_from", str(run)]
    child = os.fork()
    if child:
        return child
    try:
        main(words)
        os._exit(0)
    finally:
        import traceback

        traceback.print_exc()
        os._exit(1)


def ended(child):
    """Whether it has; raises when it failed."""
    found, status = os.waitpid(child, os.WNOHANG)
    if found and status:
        raise RuntimeError(f"A run ended with status {status}.")
    return bool(found)


def kill_when(child, may_kill, delay):
    """Kill up to `delay` seconds after `may_kill()` comes true; False: the run ended before."""
    killing = None
    while killing is None or time.monotonic() < killing:
        if ended(child):
            return False
        if killing is None and may_kill():
            killing = time.monotonic() + random.uniform(0, delay)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status == signal.SIGKILL


def scratch_since(folder, moment):
    """Whether a checkpoint began to be written after `moment` (ns) and is not there yet; earlier kills leave theirs."""
    try:
        return any(path.stat().st_ctime_ns > moment for path in folder.glob(".checkpoint_*.tmp"))
    except FileNotFoundError:
        return False


def experiment(folder):
    import peft  # noqa: F401
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    import rl.updates.ddpo  # noqa: F401
    from rl.runs.checkpoints import list_checkpoints, load_checkpoint

    random.seed(0)
    started = time.monotonic()
    _, status = os.waitpid(fork_run(folder, "whole"), 0)
    assert status == 0
    duration = time.monotonic() - started
    run, record = folder / "killed", []
    while len(record) < KILLS:
        before, had = time.time_ns(), list_checkpoints(run)
        # Not by the clock alone: on a busy machine a run would never come to its first checkpoint.
        may_kill, delay = [
            (lambda: True, 0.8 * duration),
            (lambda since=before: scratch_since(run / "checkpoints", since), 0.01),
            (lambda had=had: list_checkpoints(run) != had, 0.2 * duration),
        ][len(record) % 3]
        killed = kill_when(fork_run(folder, "killed"), may_kill, delay)
        whole = list_checkpoints(run)
        for checkpoint in whole:
            _, state = load_checkpoint(checkpoint)
            assert checkpoint.name == f"checkpoint_{state['epoch']}"
            load_file(checkpoint / "pytorch_lora_weights.safetensors")
        epoch = int(whole[-1].name.rpartition("_")[2]) if whole else 0
        logged = len(timeless_rows(run)) if (run / "metrics.csv").exists() else 0
        assert epoch >= logged - 1, f"{logged} epochs were run, the newest checkpoint is of epoch {epoch}."
        if killed:
            record.append({"epoch": epoch, "scratch": scratch_since(run / "checkpoints", before)})
        else:
            assert_equal_runs(folder / "whole", run)
            # That run is complete; the kills that are left hit a new one.
            shutil.rmtree(run)
    _, status = os.waitpid(fork_run(folder, "killed"), 0)
    assert status == 0
    (folder / "record.json").write_text(json.dumps(record))


if __name__ == "__main__":
    experiment(Path(sys.argv[1]))
