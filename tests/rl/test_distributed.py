"""Two processes on the CPU do what one does with the same global batch."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]


def train(folder, processes, pipeline):
    (folder / "toy_source.py").write_text(
        "def redness(images, prompts, metadata): return images[:, 0].mean((1, 2)), {}\n"
        "def prompts(): return ['a red circle', 'a blue square', 'two dots']\n"
    )
    run = folder / f"run{processes}"
    flags = {
        "model": pipeline, "output_dir": run, "rewards": "toy_source:redness", "prompts": "toy_source:prompts",
        "num_epochs": 2, "sample_num_steps": 3, "sample_guidance_scale": 2, "sample_batch_size": 8 // processes,
        "sample_num_batches_per_epoch": 2, "sample_group_size": 8, "train_batch_size": 8 // processes,
        "train_gradient_accumulation_steps": 2, "lora_rank": 4, "log_with": "none",
        "train_step_window": "0.0 0.67", "train_hold_weight": 1.0,
        # Far from where 1 / sqrt(v) of Adam turns rounding into steps.
        "train_adam_epsilon": 1e-3,
    }
    (folder / "recipe.yaml").write_text("")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += ["rl/ddpo_train.py", "--config", str(folder / "recipe.yaml")]
    command += [word for name, value in flags.items() for word in (f"--{name}", *str(value).split())]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file)), load_file(run / "pytorch_lora_weights.safetensors")


def test_two_processes_equal_one(tiny_pipeline_folder, tmp_path):
    one, one_weights = train(tmp_path, 1, tiny_pipeline_folder)
    two, two_weights = train(tmp_path, 2, tiny_pipeline_folder)
    for first, second in zip(one, two, strict=True):
        for name in ("reward_mean", "reward_std", "grad_norm", "pictures"):
            assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-4), name
    for name, tensor in one_weights.items():
        torch.testing.assert_close(two_weights[name], tensor, rtol=0, atol=1e-5)
    assert any(tensor.abs().max() > 1e-4 for name, tensor in one_weights.items() if "up" in name or "lora_B" in name)
