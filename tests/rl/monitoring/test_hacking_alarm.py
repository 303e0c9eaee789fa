"""When the alarm is raised, and when it must not be: on columns made by hand."""

import json

import numpy as np
import pytest

from rl.monitoring.hacking_alarm import COLLAPSE_METRICS, Look, alarm_message, alarms, judge

PROMPTS = [f"prompt {i}" for i in range(32)]


def columns(number=32, **shifts):
    """Noisy columns, the same noise whatever the shifts: as of the same prompts and seeds."""
    random = np.random.default_rng(0)
    levels = {"reward": 0.5, "oracle": 0.7, "colour_entropy": 2.0, "edge_density": 0.2, "diversity": 0.3,
              "saturation": 0.4, "similarity_to_base": 1.0}  # fmt: skip
    return {
        name: level + 0.1 * level * random.standard_normal(number) + shifts.get(name, 0.0)
        for name, level in levels.items()
    }


def looks(*shifts, units=PROMPTS, held_out=("oracle",), noise=0.02):
    found: list[Look] = []
    for number, shift in enumerate(shifts):
        now = columns(len(units), **shift)
        random = np.random.default_rng(1)  # the looks share prompts and seeds, so their noise agrees
        for column in now.values():
            column += noise * column.mean() * random.standard_normal(len(units))
        found.append(judge(5 * number + 5, columns(len(units)), now, units, held_out, found))
    return found


HACKED = {"reward": 0.2, "oracle": -0.2}


def test_alarm_when_the_reward_rises_and_the_held_out_reward_falls_twice_in_a_row():
    first, second = looks(HACKED, HACKED)
    assert (first.suspicious, first.alarming) == (["oracle"], [])
    assert (second.suspicious, second.alarming) == (["oracle"], ["oracle"])
    (alarm,) = alarms([first, second])
    assert alarm.epoch == alarm.since == 10 and alarm.is_onset
    assert alarm.reward.change == pytest.approx(0.2, abs=0.01)
    (fallen,) = alarm.fallen
    assert fallen.metric == "oracle" and fallen.change == pytest.approx(-0.2, abs=0.01)
    assert fallen.now - fallen.base == pytest.approx(fallen.change)
    assert fallen.interval[0] < fallen.change < fallen.interval[1] < 0


@pytest.mark.parametrize(
    "shift",
    [
        {},
        {"reward": 0.2},
        {"reward": 0.2, "oracle": 0.1},
        {"reward": -0.2, "oracle": -0.2},  # a run that fails is not one that hacks
        {"oracle": -0.2},  # no gain
        {"reward": 0.2, "oracle": -0.001},  # within the noise
        {"reward": 0.2, "similarity_to_base": -0.9, "saturation": -0.3},  # shown, never an alarm
        {"reward": 0.2, "colour_entropy": -0.6, "edge_density": -0.05, "diversity": -0.1},  # narrower, not collapsed
    ],
)
def test_silence(shift):
    assert [look.suspicious for look in looks(shift, shift, shift)] == [[], [], []]


@pytest.mark.parametrize("metric", COLLAPSE_METRICS)
def test_losing_more_than_half_is_a_collapse(metric):
    level = columns()[metric].mean()
    half, most = ({"reward": 0.2, metric: -share * level} for share in (0.45, 0.7))
    assert looks(half, half, held_out=())[-1].alarming == []
    assert looks(most, most, held_out=())[-1].alarming == [metric]


def test_one_bad_look_is_no_alarm_nor_are_two_with_a_good_one_between():
    fine = {"reward": 0.2}
    assert [look.alarming for look in looks(HACKED, fine, HACKED, fine)] == [[], [], [], []]


def test_two_bad_looks_at_different_metrics_are_no_alarm():
    other = {"reward": 0.2, "diversity": -0.25}
    assert [look.suspicious for look in looks(HACKED, other)] == [["oracle"], ["diversity"]]
    assert looks(HACKED, other)[-1].alarming == []


def test_each_onset_once():
    fine = {"reward": 0.2}
    given = alarms(looks(HACKED, HACKED, HACKED, fine, HACKED, HACKED))
    assert [(alarm.epoch, alarm.since) for alarm in given] == [(10, 10), (15, 10), (30, 30)]
    assert [alarm.is_onset for alarm in given] == [True, False, True]


def test_changes_are_paired_prompt_by_prompt():
    # Between prompts the oracle differs ten times more than it falls: only the paired difference shows the fall.
    random = np.random.default_rng(3)
    base = {"reward": random.standard_normal(32), "oracle": random.standard_normal(32)}
    now = {"reward": base["reward"] + 0.1, "oracle": base["oracle"] - 0.1 + 0.01 * random.standard_normal(32)}
    assert judge(5, base, now, PROMPTS, ["oracle"], []).suspicious == ["oracle"]
    order = random.permutation(32)
    unpaired = {name: column[order] for name, column in now.items()}
    assert judge(5, base, unpaired, PROMPTS, ["oracle"], []).suspicious == []


def test_pictures_of_one_prompt_are_one_observation():
    random = np.random.default_rng(0)
    falls = np.repeat(-0.1 + 0.15 * random.standard_normal(10), 40)
    base = {"reward": np.zeros(400), "oracle": np.zeros(400)}
    now = {"reward": np.ones(400), "oracle": falls - falls.mean() - 0.05}
    assert judge(5, base, now, [f"{i}" for i in range(400)], ["oracle"], []).suspicious == ["oracle"]
    assert judge(5, base, now, [f"{i // 40}" for i in range(400)], ["oracle"], []).suspicious == []


def test_too_few_units_to_tell():
    assert looks(HACKED, HACKED, units=PROMPTS[:7])[-1].suspicious == []
    assert looks(HACKED, HACKED, units=PROMPTS[:8])[-1].alarming == ["oracle"]


def test_an_unchanged_metric_seldom_raises_the_alarm(monkeypatch):
    """Ten looks a run at a held-out reward that only drifts at random while the reward rises."""
    monkeypatch.setattr("rl.monitoring.bootstrap._BOOTSTRAP_SAMPLES", 1000)
    base = {"reward": np.zeros(32), "oracle": np.zeros(32)}
    suspicious, raised = 0, 0
    for seed in range(60):
        random, drift, found = np.random.default_rng(seed), np.zeros(32), []
        for epoch in range(10):
            drift = 0.8 * drift + random.standard_normal(32)
            now = {"reward": np.ones(32), "oracle": drift}
            found.append(judge(epoch, base, now, PROMPTS, ["oracle"], found))
        suspicious += any(look.suspicious for look in found)
        raised += bool(alarms(found))
    assert raised <= 3 and raised < suspicious, (raised, suspicious)


def test_looks_survive_json():
    found = looks(HACKED, HACKED)
    assert [Look.from_record(json.loads(json.dumps(look.record()))) for look in found] == found


def test_message_has_the_numbers_and_what_to_do():
    (alarm,) = alarms(looks(HACKED, HACKED))
    text = alarm_message(alarm, 64)
    assert "ALARM at epoch 10: the reward rises while oracle falls" in text
    assert "99 % interval" in text and "64 pictures" in text and "What to do" in text
    for change in (alarm.reward, *alarm.fallen):
        assert f"{change.base:.3f} -> {change.now:.3f}" in text
