"""What TRL 0.23.1 does and we do not: each line of docs/coming-from-trl.md, reproduced."""

import pytest
import torch
from safetensors.torch import load_file


def error_of(comparison, scenario):
    return comparison.results[scenario].get("error", "no error")


def test_gradients_are_not_synchronised(trl, tiny_pipeline_folder, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = trl([str(tiny_pipeline_folder), str(tmp_path), "ranks"], *launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (
        [load_file(tmp_path / f"{moment}{rank}.safetensors") for rank in range(2)] for moment in ("before", "after")
    )
    assert all(torch.equal(before[0][name], before[1][name]) for name in before[0])
    assert not all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_a_resumed_lora_is_not_trained(comparison):
    # The saved weights arrive in a second adapter, which takes over; the optimiser holds the first, which is empty.
    result = comparison.results["resume"]
    assert result.get("saved_up", 0) > 0, result
    assert result["resumed_up"] == 0.0 and result["first_epoch"] == 1
    assert result["adapters"] == ["default", "default_1"] and result["active"] == ["default_1"]
    assert result["moved_afterwards"] == 0.0


def test_half_precision_is_off_policy_before_the_first_update(comparison):
    result = comparison.results["half_precision"]
    assert result.get("latents") == "torch.bfloat16", result
    assert result["largest_root_kl"] > 1e-4 and result["clipped"] > 0.1


def test_a_schedule_that_reaches_t0_makes_every_weight_nan(comparison):
    result = comparison.results["schedule_with_t0"]
    assert result.get("nan_tensors", 0) == result.get("tensors"), result


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("asynchronous_rewards", "has no attribute 'result'"),
        ("no_guidance", "RuntimeError"),
        ("alignprop_no_guidance", "RuntimeError"),
        ("alignprop_default_timestep", "does not require grad"),
        ("hook_without_tracker", "IndexError"),
        ("save_pretrained", "has no attribute 'is_world_process_zero'"),
        ("documented_order", "initialize the accelerate state"),
    ],
)
def test_it_raises(comparison, scenario, message):
    assert message in error_of(comparison, scenario)


def test_alignprop_draws_its_truncation_at_every_step(comparison):
    result = comparison.results["alignprop_random_truncation"]
    assert len(result.get("steps", [])) == 4, result
    # One draw a trajectory would leave its last steps, without gaps.
    assert any(steps != list(range(8 - len(steps), 8)) for steps in result["steps"])


def test_a_saved_pipeline_comes_back_without_its_attention(comparison):
    result = comparison.results["reload_saved"]
    differing = result.get("differing")
    assert differing, result
    assert all(".attn" in name for name in differing)
