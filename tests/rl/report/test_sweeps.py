from rl.report.sweeps import guidance_sweep, lora_scales


def row(model, guidance, **scores):
    return {"model": model, "guidance": guidance} | scores


def test_the_chosen_scales_are_marked_and_each_reward_has_a_chart():
    scores = {"reward": 0.5, "m:judge": None}
    rows = [row(model, scale, **scores) for model in ("base", "lora") for scale in (1, 1.25)]
    sweep = guidance_sweep({"sweep": rows, "guidance_base": 1.25, "guidance_lora": 1})
    assert sweep.columns == ["reward", "judge"]
    assert [(r.side, r.guidance, r.chosen) for r in sweep.rows] == [
        ("base", "1.0", False), ("base", "1.25", True), ("LoRA", "1.0", True), ("LoRA", "1.25", False)
    ]  # fmt: skip
    # nothing to draw for the judge, who gave no score
    assert [chart.title for chart in sweep.charts] == ["reward"]
    assert "1.05" in [tick.text for tick in sweep.charts[0].x_ticks], "scales are not whole numbers"


def test_strengths_are_drawn_in_order():
    (chart,) = lora_scales({"lora_scales": [{"scale": 1.0, "reward": 2.0}, {"scale": 0.5, "reward": 1.0}]})
    first, last = (float(point.split(",")[0]) for point in chart.curves[0].points.split())
    assert chart.title == "reward" and first < last


def test_no_sweep_is_none():
    assert guidance_sweep({}) is None and lora_scales({}) == []
