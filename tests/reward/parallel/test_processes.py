"""Two processes on the CPU take the steps of one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reward.parallel.processes import Processes

ROOT = Path(__file__).resolve().parents[3]
# As a launcher does, but forked before any backward pass: torch is imported once for all.
ENTRY = """
import multiprocessing, os, socket, sys
import accelerate, open_clip, scipy.optimize, scipy.stats, torch
from reward.datasets import load_dataset
from reward.training.train import train
from reward.training.recipe import load_training_config

torch.set_num_threads(1)
recipe, table, output = sys.argv[1:]

def work(rank, count, port):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true",
    )
    train(load_training_config(recipe), load_dataset("table", table), f"{output}/{count}", progress=False)
    if count > 1:
        assert torch.distributed.get_world_size() == count
        torch.distributed.destroy_process_group()

context = multiprocessing.get_context("fork")
for count in (1, 2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = [context.Process(target=work, args=(rank, count, port)) for rank in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers), [worker.exitcode for worker in workers]
"""
RECIPE = """
epochs: 3
batch_size: 7
val_share: 0.25
patience: 0
controls: false
lr_head: 1e-2
lr_adapter: 1e-2
lr_scales: 1e-2
model:
  backbone: "{backbone}"
  adapter_hidden: 8
  lambda_rank: 1.0
"""


def test_two_processes_equal_one(rated_table, backbone_name, tmp_path):
    (tmp_path / "entry.py").write_text(ENTRY)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(backbone=backbone_name))
    arguments = [tmp_path / "entry.py", tmp_path / "recipe.yaml", rated_table, tmp_path]
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launcher = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        complained = launcher.communicate(timeout=600)[1]
    except subprocess.TimeoutExpired:
        # its workers too, or they outlive the test
        os.killpg(launcher.pid, signal.SIGKILL)
        raise
    assert launcher.returncode == 0, complained[-3000:]
    one, two = tmp_path / "1", tmp_path / "2"
    rows = [(path / "history.csv").read_text().splitlines() for path in (one, two)]
    assert rows[0][0] == rows[1][0] and len(rows[0]) == 4
    for first, second in zip(rows[0][1:], rows[1][1:], strict=True):
        assert [float(v) for v in first.split(",")] == pytest.approx([float(v) for v in second.split(",")], rel=1e-3)
    first, second = (load_file(path / "model.safetensors") for path in (one, two))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")
    metrics = [json.loads((path / "metrics.json").read_text()) for path in (one, two)]
    assert metrics[0]["val_srcc"] == pytest.approx(metrics[1]["val_srcc"], abs=1e-3)
    assert {p.name for p in one.iterdir()} == {p.name for p in two.iterdir()}


@pytest.mark.parametrize("total", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_shares_are_equally_long_and_together_the_whole(total, count):
    rows = torch.arange(total) + 10
    shares = [Processes(rank, count).share(rows) for rank in range(count)]
    assert len({len(share) for share in shares}) == 1
    assert torch.equal(torch.cat(shares)[:total], rows)


def test_one_process_hands_through():
    values = torch.ones(3, requires_grad=True)
    alone = Processes.launched()
    assert alone == Processes() and alone.is_main and alone.join(values, 3) is values
