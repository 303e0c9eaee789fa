import dataclasses

import pytest

from rl.config.ddpo_config import DDPOConfig
from rl.config.train_config import TrainConfig

TRL_FIELDS = """
exp_name run_name seed log_with tracker_kwargs accelerator_kwargs project_kwargs tracker_project_name logdir num_epochs
save_freq num_checkpoint_limit mixed_precision allow_tf32 resume_from sample_num_steps sample_eta
sample_guidance_scale sample_batch_size sample_num_batches_per_epoch train_batch_size train_use_8bit_adam
train_learning_rate train_adam_beta1 train_adam_beta2 train_adam_weight_decay train_adam_epsilon
train_gradient_accumulation_steps train_max_grad_norm train_num_inner_epochs train_cfg train_adv_clip_max
train_clip_range train_timestep_fraction per_prompt_stat_tracking per_prompt_stat_tracking_buffer_size
per_prompt_stat_tracking_min_count async_reward_computation max_workers negative_prompts push_to_hub
""".split()


def test_superset_of_trl_names():
    assert set(TRL_FIELDS) <= {item.name for item in dataclasses.fields(DDPOConfig)}


def test_every_field_has_help_and_group():
    for item in dataclasses.fields(DDPOConfig):
        assert item.metadata["help"].endswith("."), item.name
        assert item.metadata["group"], item.name


def test_lists_and_mappings_are_not_shared():
    DDPOConfig().eval_guidance_scales.append(7.0)
    assert DDPOConfig().eval_guidance_scales == [1.0, 3.0, 5.0]


def test_accepts_what_yaml_makes_of_numbers_and_null():
    config = DDPOConfig(train_learning_rate="1e-4", lora_alpha=8, log_with=None, eval_guidance_scales=[1, "2e0"])
    assert config.train_learning_rate == 1e-4
    assert config.lora_alpha == 8.0 and isinstance(config.lora_alpha, float)
    assert config.log_with is None
    assert config.eval_guidance_scales == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_rank": "8"}, "lora_rank: expected a whole number, got '8' (str)"),
        ({"lora_rank": 8.0}, "lora_rank: expected a whole number, got 8.0"),
        ({"lora_rank": True}, "lora_rank: expected a whole number, got True"),
        ({"lora_rank": 0}, "lora_rank: expected a number >= 1, got 0"),
        ({"train_learning_rate": 0.0}, "train_learning_rate: expected a number > 0, got 0.0"),
        ({"train_learning_rate": "fast"}, "train_learning_rate: expected a number, got 'fast'"),
        ({"train_learning_rate": float("nan")}, "train_learning_rate: expected a finite number"),
        ({"ema_decay": 1.0}, "ema_decay: expected a number <= 0.99999, got 1.0"),
        ({"train_cfg": "yes"}, "train_cfg: expected true or false, got 'yes'"),
        ({"model": 5}, "model: expected text, got 5"),
        ({"tracker_kwargs": "x"}, "tracker_kwargs: expected a mapping, got 'x'"),
        ({"mixed_precision": "fp8"}, "mixed_precision: expected one of no, fp16, bf16, got 'fp8'"),
        ({"rewards": "a:b"}, "rewards: expected a list, got 'a:b'"),
        ({"eval_guidance_scales": []}, "eval_guidance_scales: expected at least 1 item(s), got 0"),
        ({"lora_targets": ["to_q", 3]}, "lora_targets[1]: expected text, got 3"),
        ({"train_step_window": [0.0]}, "train_step_window: expected 2 item(s), got 1"),
        ({"train_step_window": [0.0, 1.5]}, "train_step_window[1]: expected a number <= 1, got 1.5"),
        ({"train_step_window": [0.5, 0.5]}, "train_step_window: expected [from, to] with from < to"),
        ({"sample_eta": 0.0}, "sample_eta: expected a number > 0, got 0.0"),
        ({"push_to_hub": True}, "push_to_hub: expected false"),
        ({"advantage_normalization": "group"}, "sample_group_size is 1"),
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(ValueError) as caught:
        DDPOConfig(**values)
    assert message in str(caught.value)


def test_impossible_batches_are_refused_with_numbers_and_a_way_out():
    with pytest.raises(ValueError) as caught:
        DDPOConfig(sample_batch_size=4, sample_num_batches_per_epoch=3, train_batch_size=5)
    text = str(caught.value)
    assert "4 x 3 = 12 pictures" in text and "5 x 1 = 5" in text
    assert "train_batch_size: 4, train_gradient_accumulation_steps: 1" in text
    DDPOConfig(sample_batch_size=4, sample_num_batches_per_epoch=3, train_batch_size=4)


def test_groups_may_span_batches_and_processes():
    config = TrainConfig(sample_batch_size=4, sample_num_batches_per_epoch=3, sample_group_size=8)
    assert config.check_groups(num_processes=2) == 3
    with pytest.raises(ValueError, match=r"4 x 3 x 1 = 12 pictures.*sample_group_size: 6"):
        config.check_groups(num_processes=1)


def test_learning_rate_schedules():
    assert TrainConfig(train_learning_rate=1.0, num_epochs=10).learning_rate(9) == 1.0
    linear = TrainConfig(train_learning_rate=1.0, num_epochs=10, lr_schedule="linear")
    assert [linear.learning_rate(epoch) for epoch in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])
    cosine = TrainConfig(train_learning_rate=1.0, num_epochs=10, lr_schedule="cosine")
    assert [cosine.learning_rate(epoch) for epoch in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])


def test_early_stop_without_evaluations_is_an_error():
    with pytest.raises(ValueError, match="early_stop_patience: expected eval_freq > 0"):
        DDPOConfig(early_stop_patience=3)


def test_normalisation_by_group_needs_groups():
    with pytest.raises(ValueError, match="reward_normalization: 'group'"):
        DDPOConfig(reward_normalization="group", sample_group_size=1)
