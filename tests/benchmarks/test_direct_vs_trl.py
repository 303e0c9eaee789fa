import pytest

from benchmarks.direct_vs_trl.our_side import OurSide, make_config
from benchmarks.direct_vs_trl.tables import speed_table

SETTINGS = {"sample_num_steps": 3, "sample_batch_size": 2, "sample_guidance_scale": 1.0}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_alignprop_draws_the_depth_it_is_told(depth):
    side, seen = OurSide(SETTINGS | {"depth": depth}), []
    step = side.trainer.update.step
    side.trainer.update.step = lambda *args: seen.append(step(*args)) or seen[-1]
    record = side.run_epoch()
    assert seen[0]["backprop_steps"] == depth and seen[0]["optimizer_steps"] == 1
    assert record["seconds"] >= record["sampling"] + record["reward"] + record["update"] > 0


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_no_depth_is_rounded_away(steps):
    for depth in range(1, steps + 1):
        low, high = make_config(SETTINGS | {"sample_num_steps": steps, "depth": depth}).alignprop_window
        assert round(low * steps) == round(high * steps) == depth


def test_ratios_are_taken_turn_by_turn():
    def row(side, seconds, **changes):
        values = dict.fromkeys(("cpu_seconds", "sampling", "update", "peak_mb"), seconds) | {"ready_mb": 0}
        return {"guidance": "2.0", "depth": "5", "side": side, "seconds": seconds, "error": ""} | values | changes

    rows = [row("trl", 1.0), row("ours", 0.5), row("trl", 4.0), row("ours", 2.0), row("trl", 1.0), row("ours", 2.0)]
    ours = next(line for line in speed_table(rows).splitlines() if "| ours |" in line)
    assert "| 2.00 (0.50x) | 0.50x |" in ours
