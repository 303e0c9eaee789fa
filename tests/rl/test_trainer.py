import csv
import json

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from rl.config.ddpo_config import DDPOConfig
from rl.models.policy import sample_seed
from rl.rewards.loading import NonFiniteRewardError, Reward, RewardSet
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate

PROMPTS = ["a red circle", "a blue square", "two green dots"]


def redness(images, prompts, metadata):
    return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2)), {}


def brightness(images, prompts, metadata):
    return images.mean((1, 2, 3)), {}


def make_trainer(folder, run, reward=redness, **changes):
    config = DDPOConfig(
        **(
            dict(
                output_dir=str(run), num_epochs=3, sample_num_steps=4, sample_guidance_scale=1.0,
                sample_batch_size=4, sample_num_batches_per_epoch=2, sample_group_size=4, train_batch_size=4,
                train_gradient_accumulation_steps=2, train_learning_rate=1e-3, lora_rank=4, lora_alpha=8.0,
                log_with=None,
            )
            | changes
        )
    )
    return Trainer(
        config, StableDiffusionPipeline.from_pretrained(folder, safety_checker=None),
        RewardSet([Reward("redness", reward)]), PROMPTS, DDPOUpdate,
        eval_rewards=RewardSet([Reward("bright_reward", brightness)]), eval_prompts=PROMPTS[:2],
    )


def read_rows(run):
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def weights(trainer):
    return [parameter.detach().clone() for parameter in trainer.lora]


def test_run_folder_end_to_end(tiny_pipeline_folder, tmp_path):
    run = tmp_path / "run"
    trainer = make_trainer(
        tiny_pipeline_folder, run, eval_at_end=True, eval_num_prompts=4, eval_guidance_scales=[1.0, 2.0],
        eval_batch_size=4, eval_freq=2, eval_freq_num_prompts=4, save_freq=1, num_checkpoint_limit=2,
        log_with="tensorboard",
    )
    frozen = {
        name: parameter.detach().clone()
        for module in (trainer.pipeline.unet, trainer.pipeline.vae, trainer.pipeline.text_encoder)
        for name, parameter in module.named_parameters()
        if not parameter.requires_grad
    }
    before = weights(trainer)
    summary = trainer.train()
    for module in (trainer.pipeline.unet, trainer.pipeline.vae, trainer.pipeline.text_encoder):
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                assert torch.equal(parameter, frozen[name]), name
    assert not all(torch.equal(a, b) for a, b in zip(before, trainer.lora, strict=True))
    for name in ("config.yaml", "metrics.csv", "summary.json", "report.html", "evaluation.json",
                 "pytorch_lora_weights.safetensors", "samples/epoch_000001.png", "samples/epoch_000003.png",
                 "checkpoints/checkpoint_2", "checkpoints/checkpoint_3"):
        assert (run / name).exists(), name
    assert not (run / "checkpoints" / "checkpoint_1").exists()
    assert list((run / "logs").rglob("events.out.tfevents*"))
    rows = read_rows(run)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        assert float(row["ratio_mean"]) == 1.0 and float(row["approx_kl"]) == 0.0
    assert float(rows[-1]["pictures"]) == 24
    assert rows[1]["eval/bright_reward"] and not rows[0]["eval/bright_reward"]
    assert rows[1]["eval/alarm"] == "0" and rows[1]["eval/diversity"] and rows[1]["eval/similarity_to_base"]
    stored = json.loads((run / "summary.json").read_text())
    assert stored == summary and stored["alarms"] == []
    assert "Is the reward being hacked?" in (run / "report.html").read_text()
    assert {"reward_base", "reward_lora", "bright_base", "bright_lora", "bright_gain", "bright_gain_ci", "seconds",
            "guidance_base", "guidance_lora", "n_prompts", "epochs"} <= set(stored)
    StableDiffusionPipeline.from_pretrained(tiny_pipeline_folder, safety_checker=None).load_lora_weights(run)


def test_the_alarm_of_a_hacked_run_reaches_log_summary_and_report(tiny_pipeline_folder, tmp_path, capsys):
    """Redness is trained; what is held out is its opposite."""
    run = tmp_path / "run"
    trainer = make_trainer(
        tiny_pipeline_folder, run, num_epochs=8, sample_batch_size=16, train_batch_size=16, sample_group_size=16,
        train_learning_rate=2e-2, train_adam_weight_decay=0.0, train_step_weighting="sigma", eval_freq=2,
        eval_freq_num_prompts=8, eval_freq_group_size=4,
    )
    opposite = RewardSet([Reward("paleness", lambda *batch: (-redness(*batch)[0], {}))])
    trainer.panel.evaluator.eval_rewards = opposite
    summary = trainer.train()
    (entry,) = summary["alarms"]
    assert entry["metrics"] == ["paleness"] and entry["epoch"] in (4, 6, 8)
    logged = {int(row["step"]): row["eval/alarm"] for row in read_rows(run) if row["eval/alarm"]}
    assert list(logged) == [2, 4, 6, 8]
    assert all(value == str(int(epoch >= entry["epoch"])) for epoch, value in logged.items())
    out = capsys.readouterr()
    assert (out.out + out.err).count(f"ALARM at epoch {entry['epoch']}") == 1
    assert "The reward may be hacked" in (run / "report.html").read_text()


def test_reward_rises(tiny_pipeline_folder, tmp_path):
    trainer = make_trainer(
        tiny_pipeline_folder, tmp_path / "run", num_epochs=8, sample_batch_size=16, train_batch_size=16,
        sample_group_size=16, train_learning_rate=2e-2, eval_at_end=True, eval_num_prompts=32,
        eval_guidance_scales=[1.0], eval_batch_size=32, train_adam_weight_decay=0.0,
        train_step_weighting="sigma",
    )
    summary = trainer.train()
    assert summary["reward_gain_ci"][0] > 0, summary


def test_same_seed_same_run_and_another_seed_another(tiny_pipeline_folder, tmp_path):
    runs = []
    for number, changes in enumerate([{}, {}, {"seed": 1}]):
        trainer = make_trainer(tiny_pipeline_folder, tmp_path / str(number), num_epochs=2, **changes)
        trainer.train()
        runs.append(weights(trainer))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


def test_batches_do_not_change_the_run(tiny_pipeline_folder, tmp_path):
    whole = make_trainer(
        tiny_pipeline_folder, tmp_path / "a", sample_batch_size=8, sample_num_batches_per_epoch=1, train_batch_size=8,
        train_gradient_accumulation_steps=1, num_epochs=1,
    )
    parts = make_trainer(tiny_pipeline_folder, tmp_path / "b", num_epochs=1)
    whole.train()
    parts.train()
    one, two = read_rows(tmp_path / "a")[0], read_rows(tmp_path / "b")[0]
    for name in ("reward_mean", "reward_std", "grad_norm"):
        assert float(one[name]) == pytest.approx(float(two[name]), rel=1e-4)


def test_noise_is_of_seed_epoch_and_global_index(tiny_pipeline_folder, tmp_path):
    trainer = make_trainer(tiny_pipeline_folder, tmp_path / "run", num_epochs=2, seed=5)
    seen, sample = [], trainer.update.sample
    trainer.update.sample = lambda batch: (seen.extend(batch.seeds), sample(batch))
    trainer.train()
    assert seen == [sample_seed(5, epoch, index) for epoch in range(2) for index in range(8)]
    assert len(set(seen)) == 16


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9, "lr_schedule": "cosine"},
                                     {"eval_freq": 1, "eval_freq_num_prompts": 8},
                                     {"per_prompt_stat_tracking": True, "per_prompt_stat_tracking_min_count": 2}])
def test_resumed_equals_uninterrupted_bit_for_bit(tiny_pipeline_folder, tmp_path, changes):
    changes = {"save_freq": 2, "num_epochs": 4} | changes
    whole = make_trainer(tiny_pipeline_folder, tmp_path / "whole", **changes)
    whole.train()
    run = tmp_path / "parts"
    broken = make_trainer(tiny_pipeline_folder, run, **changes)
    broken.update.step, step = lambda epoch, experience: stop(epoch, experience), broken.update.step

    def stop(epoch, experience):
        if epoch == 2:
            raise KeyboardInterrupt
        return step(epoch, experience)

    with pytest.raises(KeyboardInterrupt):
        broken.train()
    torch.manual_seed(99)
    resumed = make_trainer(tiny_pipeline_folder, run, resume_from=str(run), **changes)
    resumed.train()
    assert all(torch.equal(a, b) for a, b in zip(whole.lora, resumed.lora, strict=True))
    first, second = (load_file(folder / "pytorch_lora_weights.safetensors") for folder in (tmp_path / "whole", run))
    assert all(torch.equal(first[name], second[name]) for name in first)
    timeless = [{k: v for k, v in row.items() if "seconds" not in k} for row in read_rows(run)]
    assert timeless == [
        {k: v for k, v in row.items() if "seconds" not in k} for row in read_rows(tmp_path / "whole")
    ]
    state = json.loads((run / "checkpoints" / "checkpoint_4" / "state.json").read_text())
    assert state["epoch"] == 4


def test_non_finite_reward_stops_the_run_and_keeps_everything(tiny_pipeline_folder, tmp_path):
    calls = []

    def breaks(images, prompts, metadata):
        calls.append(1)
        values = redness(images, prompts, metadata)[0]
        if len(calls) == 4:  # second epoch, second batch
            values[1] = float("nan")
        return values, {}

    run = tmp_path / "run"
    trainer = make_trainer(tiny_pipeline_folder, run, reward=breaks, save_freq=1)
    seen = []
    trainer.update.step, step = lambda *args: (step(*args), seen.append(weights(trainer)))[0], trainer.update.step
    with pytest.raises(NonFiniteRewardError, match="'redness' for 1 of 4 pictures"):
        trainer.train()
    assert len(seen) == 1
    assert all(torch.equal(a, b) for a, b in zip(seen[0], trainer.lora, strict=True))
    record = json.loads((run / "failure" / "process0.json").read_text())
    assert record["epoch"] == 2 and len(record["pictures"]) == 4
    assert len(list((run / "failure").glob("*.png"))) == 4
    assert len(read_rows(run)) == 1
    assert (run / "checkpoints" / "checkpoint_1" / "state.json").is_file()


def test_background_rewards_equal_plain_ones(tiny_pipeline_folder, tmp_path):
    plain = make_trainer(tiny_pipeline_folder, tmp_path / "a", num_epochs=2)
    background = make_trainer(tiny_pipeline_folder, tmp_path / "b", num_epochs=2, async_reward_computation=True)
    plain.train()
    background.train()
    assert all(torch.equal(a, b) for a, b in zip(plain.lora, background.lora, strict=True))


def test_time_limit_ends_after_the_epoch_under_way(tiny_pipeline_folder, tmp_path):
    trainer = make_trainer(tiny_pipeline_folder, tmp_path / "run", num_epochs=50, max_train_seconds=0.01, save_freq=50)
    assert trainer.train()["epochs"] == 1
    assert (tmp_path / "run" / "checkpoints" / "checkpoint_1").is_dir()


def test_moving_average_is_what_is_saved(tiny_pipeline_folder, tmp_path):
    run = tmp_path / "run"
    trainer = make_trainer(tiny_pipeline_folder, run, ema_decay=0.9)
    trainer.train()
    saved = sorted(load_file(run / "pytorch_lora_weights.safetensors").values(), key=lambda t: t.sum().item())
    shadow = sorted(trainer.average.shadow, key=lambda t: t.sum().item())
    assert all(torch.equal(a, b) for a, b in zip(saved, shadow, strict=True))
    raw = load_file(run / "checkpoints" / "checkpoint_3" / "pytorch_lora_weights.safetensors")
    assert not torch.equal(next(iter(raw.values())), next(iter(load_file(
        run / "pytorch_lora_weights.safetensors").values())))


@pytest.fixture
def fresh_accelerate():
    """accelerate keeps its precision for the whole process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def test_bf16(tiny_pipeline_folder, tmp_path, fresh_accelerate):
    trainer = make_trainer(tiny_pipeline_folder, tmp_path / "run", num_epochs=1, mixed_precision="bf16")
    trainer.train()
    assert trainer.pipeline.unet.conv_in.weight.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in trainer.lora)
    assert float(read_rows(tmp_path / "run")[0]["approx_kl"]) < 1e-8


def test_no_rewards(tiny_pipeline, tmp_path):
    with pytest.raises(ValueError, match="at least one reward"):
        Trainer(DDPOConfig(output_dir=str(tmp_path)), tiny_pipeline, RewardSet([]), PROMPTS, DDPOUpdate)


def test_8bit_adam_names_its_package(tiny_pipeline_folder, tmp_path):
    with pytest.raises(ImportError, match="pip install bitsandbytes"):
        make_trainer(tiny_pipeline_folder, tmp_path / "run", train_use_8bit_adam=True)


def test_early_stop_keeps_the_best_weights_and_resumes(tiny_pipeline_folder, tmp_path):
    def make(run, **changes):
        settings = {"num_epochs": 6, "save_freq": 1, "eval_freq": 1, "early_stop_patience": 2, "ema_decay": 0.5}
        trainer = make_trainer(tiny_pipeline_folder, run, train_learning_rate=1e-2, **(settings | changes))

        # A held-out score that falls from epoch to epoch: the first evaluation is the best one.
        def falling(images, prompts, metadata):
            return torch.full((len(images),), -float(trainer.epoch)), {}

        trainer.evaluator.eval_rewards = RewardSet([Reward("falling", falling)])
        return trainer

    trainer = make(tmp_path / "whole")
    summary = trainer.train()
    assert (summary["epochs"], summary["best_epoch"]) == (3, 1)
    best = load_file(tmp_path / "whole" / "pytorch_lora_weights.safetensors")
    # What one epoch alone gives, its moving average included.
    make(tmp_path / "one", num_epochs=1).train()
    alone = load_file(tmp_path / "one" / "pytorch_lora_weights.safetensors")
    assert all(torch.equal(best[name], alone[name]) for name in best)
    # Stopped after an evaluation and resumed: the best weights and the count of evaluations are remembered.
    first = make(tmp_path / "again", num_epochs=6)
    first.config.num_epochs = 2
    first.train()
    resumed = make(tmp_path / "again", resume_from=str(tmp_path / "again"))
    summary = resumed.train()
    assert (summary["epochs"], summary["best_epoch"]) == (3, 1)
    again = load_file(tmp_path / "again" / "pytorch_lora_weights.safetensors")
    assert all(torch.equal(best[name], again[name]) for name in best)


@pytest.mark.parametrize("mode", ["epoch", "group"])
def test_normalised_rewards_give_the_update_both_rewards_alike(tiny_pipeline_folder, tmp_path, mode):
    def huge(images, prompts, metadata):
        return 1e6 + 1e5 * brightness(images, prompts, metadata)[0], {}

    seen = {}
    for name, reward in (("plain", brightness), ("huge", huge)):
        trainer = make_trainer(tiny_pipeline_folder, tmp_path / name, num_epochs=1, reward_normalization=mode)
        trainer.rewards = RewardSet([Reward("redness", redness), Reward("bright", reward, 0.5)])
        step = trainer.update.step
        trainer.update.step = lambda epoch, experience, step=step, name=name: (
            seen.update({name: experience.rewards.clone()}) or step(epoch, experience)
        )
        trainer.train()
        (row,) = read_rows(tmp_path / name)
        # Logged as they are.
        assert float(row["reward_mean"]) == pytest.approx(
            float(row["reward/redness"]) + 0.5 * float(row["reward/bright"]), rel=1e-4
        )
    assert seen["plain"].std() > 0.1
    torch.testing.assert_close(seen["plain"], seen["huge"], rtol=0, atol=1e-2)


def test_stopping_on_an_alarm_needs_another_judge_than_the_hacked_reward(tiny_pipeline, tmp_path):
    config = DDPOConfig(output_dir=str(tmp_path / "run"), early_stop_on_alarm=True, eval_freq=1, log_with=None)
    with pytest.raises(ValueError, match="early_stop_on_alarm: expected at least one of eval_rewards"):
        Trainer(config, tiny_pipeline, RewardSet([Reward("redness", redness)]), PROMPTS, DDPOUpdate)
