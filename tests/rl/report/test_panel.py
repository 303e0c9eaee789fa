"""The report shows the panel and, at its head, the alarm."""

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np

from rl.monitoring.hacking_alarm import PANEL_FILE, judge
from rl.report.page import write_report
from rl.report.panel import panel_values
from rl.runs.metrics_file import RunReporter

HOSTILE = "</p><script>alert('x')</script>"


def panel(shift, held_out="oracle_reward", epochs=(5, 10, 15)):
    base = {name: np.linspace(0.4, 0.6, 16) for name in ("reward", held_out, "colour_entropy", "diversity")}
    looks = []
    for epoch in epochs:
        now = {name: column.copy() for name, column in base.items()}
        now["reward"] += 0.01 * epoch
        now[held_out] += shift * epoch
        looks.append(judge(epoch, base, now, [str(i) for i in range(16)], [held_out], looks))
    record = {"level": 0.99, "num_prompts": 16, "group_size": 2, "held_out": [held_out]}
    return json.loads(json.dumps(record | {"looks": [look.record() for look in looks]}))


def page(run, panel_record):
    reporter = RunReporter(run)
    for epoch in (5, 10, 15):
        reporter.log(epoch, {"reward_mean": 0.1 * epoch, "eval/oracle_reward": 0.5, "eval/alarm": 1})
    if panel_record:
        (run / PANEL_FILE).write_text(json.dumps(panel_record))
    return write_report(run).read_text()


def test_an_alarm_stands_at_the_head_and_in_the_charts(tmp_path):
    text = page(tmp_path, panel(-0.01))
    head = text.index("The reward may be hacked")
    assert head < text.index("Base and LoRA were not compared") < text.index('id="panel"')
    shown = " ".join(re.sub(r"<[^>]+>", "", text).split())
    assert "Epoch 10: reward 0.500 → 0.600 (+0.100, +0.100 to +0.100), oracle reward 0.500 → 0.400 (−0.100" in shown
    assert "Alarm at epoch 10, marked in the charts" in text
    # In every chart over epochs; the path of one reward against the other has no epochs.
    assert text.count('<line class="marker"') == 4
    assert "oracle reward against reward" in text
    assert "eval/oracle_reward" not in text and "eval/alarm" not in text  # the panel shows them


def test_without_an_alarm_the_panel_says_so(tmp_path):
    text = page(tmp_path, panel(+0.01))
    assert "No alarm in 3 evaluations." in text
    assert "being hacked?" in text and "may be hacked" not in text and '<line class="marker"' not in text


def test_one_evaluation_is_too_early():
    assert "Too early to say" in panel_values(panel(-0.01, epochs=(5,))).verdict


def test_runs_without_a_panel_look_as_before(tmp_path):
    text = page(tmp_path, None)
    assert 'id="panel"' not in text and "eval/oracle_reward" in text
    assert panel_values({}) is None


def test_charts_begin_at_the_base_model(tmp_path):
    text = page(tmp_path, panel(-0.01))
    charts = text[text.index('id="panel"') : text.index("<h2>Training")].split("<svg")[1:]
    assert len(charts) == 5
    for chart in charts:
        ElementTree.fromstring("<svg" + chart.partition("</svg>")[0] + "</svg>")
        assert chart.count("<circle") == 4


def test_names_are_escaped(tmp_path):
    text = page(tmp_path, panel(-0.01, held_out=HOSTILE))
    # in the alarm, and as title of a chart and of a path
    assert "<script" not in text and text.count("&lt;script") >= 3
