"""Two processes on the CPU, started by `accelerate launch`, do what one does with the same global batch."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {1: "one_process.yaml", 2: "two_cpu_processes.yaml"}
TOY = """
import os, signal, torch

def redness(images, prompts, metadata):
    return images[:, 0].mean((1, 2)), {}

def noisy(images, prompts, metadata):
    # Each process draws from its own generator. The second one, and it alone, is told to stop.
    if os.environ["RANK"] == os.environ.get("STOP_RANK"):
        os.kill(os.getpid(), signal.SIGTERM)
    if not hasattr(noisy, "seeded"):
        noisy.seeded = True
        if "FIRST_START" in os.environ:
            torch.manual_seed(100 + int(os.environ["RANK"]))
    return redness(images, prompts, metadata)[0] + torch.rand(len(images)), {}

def prompts():
    return ["a red circle", "a blue square", "two dots"]

def counted(images, prompts, metadata):
    # What a GenEval-style reward does: it cannot score a prompt without its own fields.
    assert [fields["text"] for fields in metadata] == [str(prompt) for prompt in prompts]
    return images[:, 0].mean((1, 2)) * torch.tensor([fields["count"] for fields in metadata]), {}
"""
# The entry script, with every process's weights kept.
ENTRY = """
import importlib, os
import rl.trainer
from safetensors.torch import save_file

class Kept(rl.trainer.Trainer):
    def train(self):
        super().train()
        rank = self.accelerator.process_index
        save_file({str(i): p.detach() for i, p in enumerate(self.lora)}, self.run / f"weights_of_{rank}.safetensors")

rl.trainer.Trainer = Kept
importlib.import_module(os.environ.get("ENTRY_SCRIPT", "rl.ddpo_train")).main()
"""
DDPO = {
    "sample_group_size": 8, "train_step_window": "0.0 0.67", "train_hold_weight": 1.0,
    "train_gradient_accumulation_steps": 2,
}  # fmt: skip


def train(folder, name, processes, pipeline, environment=(), method=None, script=None, **changes):
    (folder / "toy_source.py").write_text(TOY)
    (folder / "entry.py").write_text(ENTRY)
    (folder / "recipe.yaml").write_text("")
    flags = {
        "model": pipeline, "output_dir": folder / name, "rewards": "toy_source:redness",
        "prompts": "toy_source:prompts",
        "num_epochs": 2, "sample_num_steps": 3, "sample_guidance_scale": 2, "sample_batch_size": 8 // processes,
        "sample_num_batches_per_epoch": 2, "lora_rank": 4, "log_with": "none",
        # Far from where 1 / sqrt(v) of Adam turns rounding into steps.
        "train_adam_epsilon": 1e-3,
    }  # fmt: skip
    if not script:
        flags |= {"method": method} if method else DDPO | {"train_batch_size": 8 // processes}
    flags |= changes
    command = [str(Path(sys.executable).with_name("accelerate")), "launch"]
    command += ["--config_file", f"configs/accelerate/{CONFIGS[processes]}", str(folder / "entry.py")]
    command += ["--config", str(folder / "recipe.yaml")]
    command += [word for name, value in flags.items() for word in (f"--{name}", *str(value).split())]
    variables = {
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "ENTRY_SCRIPT": script or ("rl.direct_train" if method else "rl.ddpo_train"),
    }  # fmt: skip
    launcher = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | variables | dict(environment), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        said, complained = launcher.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        # The launcher's workers too, or they outlive the test.
        os.killpg(launcher.pid, signal.SIGKILL)
        raise
    assert launcher.returncode == 0, complained[-3000:]
    return folder / name, said + complained


def rows(run):
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def weights(run, processes):
    found = sorted(run.glob("weights_of_*.safetensors"))
    assert len(found) == processes
    each = [load_file(path) for path in found]
    for other in each[1:]:
        assert all(torch.equal(other[name], each[0][name]) for name in each[0]), "The processes' weights differ."
    return each[0]


UPDATE_METRICS = ("reward_mean", "grad_norm", "loss", "kl_to_base", "reward_queries", "denoiser_evaluations")


def assert_same_training(one, two, metrics, *, weights_within=1e-5, **within):
    """Runs of one and of two processes have the same metrics and the same weights, up to rounding."""
    for first, second in zip(rows(one), rows(two), strict=True):
        for name in metrics:
            assert float(first[name]) == pytest.approx(float(second[name]), **{"rel": 1e-4} | within), name
    one_weights, two_weights = weights(one, 1), weights(two, 2)
    for name, tensor in one_weights.items():
        torch.testing.assert_close(two_weights[name], tensor, rtol=0, atol=weights_within)


def test_two_processes_equal_one(tiny_pipeline_folder, tmp_path):
    evaluated = {"eval_freq": 1, "eval_freq_num_prompts": 9}
    one, _ = train(tmp_path, "one", 1, tiny_pipeline_folder, **evaluated)
    two, _ = train(tmp_path, "two", 2, tiny_pipeline_folder, **evaluated)
    panel = [f"eval/{name}" for name in ("reward", "similarity_to_base", "colour_entropy", "diversity", "alarm")]
    assert_same_training(one, two, ["reward_mean", "reward_std", "grad_norm", "held_distance", "pictures", *panel])
    saved = load_file(one / "pytorch_lora_weights.safetensors")
    assert any(tensor.abs().max() > 1e-4 for name, tensor in saved.items() if "up" in name or "lora_B" in name)


@pytest.mark.parametrize("method", [None, "draft"])
def test_a_prompts_metadata_reaches_every_reward_on_every_process(tiny_pipeline_folder, tmp_path, method):
    texts = ("one", "two dots", "three")
    lines = [json.dumps({"prompt": text, "text": text, "count": number}) for number, text in enumerate(texts)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    settings = {
        "rewards": "toy_source:counted", "eval_rewards": "toy_source:counted", "prompts": tmp_path / "prompts.jsonl",
        "eval_freq": 1, "eval_freq_num_prompts": 4, "eval_at_end": "true", "eval_num_prompts": 4,
        "async_reward_computation": "false" if method else "true",
    } | ({"backprop_steps": 1} if method else {})  # fmt: skip
    one, _ = train(tmp_path, "one", 1, tiny_pipeline_folder, method=method, **settings)
    two, _ = train(tmp_path, "two", 2, tiny_pipeline_folder, method=method, **settings)
    for first, second in zip(rows(one), rows(two), strict=True):
        assert float(first["reward_mean"]) == pytest.approx(float(second["reward_mean"]), rel=1e-3, abs=1e-7)
    assert len(json.loads((two / "evaluation.json").read_text())["examples"]) == 4


def test_two_processes_equal_one_under_direct_backpropagation(tiny_pipeline_folder, tmp_path):
    settings = {"backprop_steps": 2, "reward_augmentation": 0.1, "train_kl_weight": 0.1}
    one, _ = train(tmp_path, "one", 1, tiny_pipeline_folder, method="draft", **settings)
    two, _ = train(tmp_path, "two", 2, tiny_pipeline_folder, method="draft", **settings)
    assert_same_training(one, two, UPDATE_METRICS, rel=1e-3, abs=1e-7)
    saved = load_file(one / "pytorch_lora_weights.safetensors")
    assert any(tensor.abs().max() > 1e-4 for name, tensor in saved.items() if "up" in name or "lora_B" in name)


def test_sigterm_to_one_process_stops_both_and_each_goes_on_with_its_own_random_state(tiny_pipeline_folder, tmp_path):
    first = {"FIRST_START": "yes"}
    noisy = {"rewards": "toy_source:noisy", "save_freq": 50}
    whole, _ = train(tmp_path, "whole", 2, tiny_pipeline_folder, first, **noisy)
    run, said = train(tmp_path, "run", 2, tiny_pipeline_folder, first | {"STOP_RANK": "1"}, **noisy)
    assert said.count("Stopped by SIGTERM after epoch 1 of 2.") == 1 and f"--resume_from {run}" in said
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["checkpoint_1"]
    state = load_file(run / "checkpoints" / "checkpoint_1" / "training_state.safetensors")
    assert not torch.equal(state["random.0.torch"], state["random.1.torch"])
    train(tmp_path, "run", 2, tiny_pipeline_folder, resume_from=run, **noisy)
    expected, resumed = weights(whole, 2), weights(run, 2)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    timeless = [[{k: v for k, v in row.items() if "seconds" not in k} for row in rows(which)] for which in (whole, run)]
    assert timeless[0] == timeless[1]
