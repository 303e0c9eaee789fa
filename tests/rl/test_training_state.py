import json
import os
import random
import signal

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from rl.config.ddpo_config import DDPOConfig
from rl.rewards.loading import Reward, RewardSet
from rl.runs.checkpoints import load_checkpoint
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate


def noisy(images, prompts, metadata):
    """A reward that draws from every generator, as a reward model with dropout would."""
    values = images[:, 0].mean((1, 2)) + 0.1 * torch.rand(len(images))
    return values + 0.1 * torch.from_numpy(np.random.randn(len(images))) * random.random(), {}


def make_trainer(folder, run, **changes):
    config = DDPOConfig(
        **(
            dict(
                output_dir=str(run), num_epochs=3, sample_num_steps=4, sample_guidance_scale=1.0,
                sample_batch_size=4, sample_num_batches_per_epoch=2, sample_group_size=4, train_batch_size=4,
                train_gradient_accumulation_steps=2, train_learning_rate=1e-3, lora_rank=4, log_with=None,
            )
            | changes
        )
    )
    return Trainer(
        config, StableDiffusionPipeline.from_pretrained(folder, safety_checker=None),
        RewardSet([Reward("noisy", noisy)]), ["a red circle", "a blue square"], DDPOUpdate,
    )


def test_sigterm_checkpoints_after_the_epoch_and_the_run_goes_on_bit_for_bit(tiny_pipeline_folder, tmp_path, capsys):
    whole = make_trainer(tiny_pipeline_folder, tmp_path / "whole", save_freq=50)
    whole.train()
    run = tmp_path / "run"
    options = dict(save_freq=50, eval_at_end=True, eval_num_prompts=2, eval_guidance_scales=[1.0])
    stopped = make_trainer(tiny_pipeline_folder, run, **options)
    rollout = stopped.update.sample

    def rollout_with_signal(*args):
        if stopped.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        rollout(*args)

    stopped.update.sample = rollout_with_signal
    summary = stopped.train()
    assert summary["epochs"] == 2 and "reward_base" not in summary
    assert f"--resume_from {run}" in capsys.readouterr().out
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["checkpoint_2"]
    resumed = make_trainer(tiny_pipeline_folder, run, resume_from=str(run), **options)
    summary = resumed.train()
    assert summary["epochs"] == 3 and "reward_base" in summary
    assert all(torch.equal(a, b) for a, b in zip(whole.lora, resumed.lora, strict=True))


def test_another_number_of_processes_seeds_anew_and_says_so(tiny_pipeline_folder, tmp_path, capsys):
    run = tmp_path / "run"
    make_trainer(tiny_pipeline_folder, run, num_epochs=1).train()
    folder = run / "checkpoints" / "checkpoint_1"
    assert {f"random.0.{name}" for name in ("torch", "numpy", "python")} <= set(load_checkpoint(folder)[0])
    (folder / "SHA256SUMS").unlink()  # it is edited below
    state = json.loads((folder / "state.json").read_text())
    assert state["processes"] == 1
    finals = []
    for processes in (1, 2, 2):
        (folder / "state.json").write_text(json.dumps(state | {"processes": processes}))
        resumed = make_trainer(tiny_pipeline_folder, tmp_path / "on", num_epochs=2, resume_from=str(folder))
        resumed.train()
        finals.append([parameter.detach().clone() for parameter in resumed.lora])
        assert ("saved by 2 process(es), this run has 1" in capsys.readouterr().out) == (processes == 2)
    assert not all(torch.equal(a, b) for a, b in zip(finals[0], finals[1], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(finals[1], finals[2], strict=True))
