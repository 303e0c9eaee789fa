from rl.report.curves import training_curves

METRICS = {
    step: {"reward_mean": step, "reward_std": 0.5, "reward_queries": 8.0, "loss": -step, "eval/oracle": step}
    for step in (1, 2)
}
METRICS[1]["once"] = 1.0


def titles(charts):
    return [chart.title for chart in charts]


def test_rewards_are_shown_at_once_and_counters_are_folded_away():
    curves = training_curves(METRICS, panel=False)
    assert titles(curves.first) == ["reward_mean", "eval/oracle"]
    assert titles(curves.folded) == ["reward_queries", "loss"]
    assert curves.first[0].curves[0].band and curves.first[0].y_label == "mean ± deviation"
    assert not curves.folded[0].curves[0].band


def test_the_panel_shows_the_evaluations():
    assert titles(training_curves(METRICS, panel=True).first) == ["reward_mean"]


def test_without_two_points_there_is_nothing_to_draw():
    assert training_curves({1: {"reward_mean": 1.0}}, panel=False) is None
    assert training_curves({}, panel=False) is None
