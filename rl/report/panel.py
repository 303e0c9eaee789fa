"""The report's panel against reward hacking: held-out rewards and side metrics beside the reward, and the alarm."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rl.monitoring.hacking_alarm import COLLAPSE_METRICS, COLLAPSE_SHARE, LOOKS, Alarm, Change, Look, alarms
from rl.report.line_chart import Line, line_chart

_WIDTH, _HEIGHT = 360, 210  # of one of the small multiples
_MEANINGS = {
    "similarity_to_base": "1: the base model's pictures",
    "colour_entropy": "bits",
    "edge_density": "share of pixels",
    "saturation": "0 grey, 1 pure",
    "diversity": "between pictures of a prompt",
}


def alarm_note(panel: Mapping[str, Any]) -> str:
    """The alarms as a box for the head of the report; empty without one."""
    onsets = [alarm for alarm in alarms(_looks(panel)) if alarm.is_onset]
    if not onsets:
        return ""
    rows = "".join(f"<li>Epoch {escape(str(alarm.epoch))}: {_sentence(alarm)}</li>" for alarm in onsets)
    return (
        "<section class='alarm' role='alert'><h2>The reward may be being hacked</h2>"
        f"<p>It rose while a held-out metric fell, {LOOKS} evaluations in a row, against the base model with the same "
        f"prompts and seeds:</p><ul>{rows}</ul>"
        "<p>Look at the pictures before you trust the gain; <a href='#panel'>the panel</a> shows where it began.</p>"
        "</section>"
    )


def panel_section(panel: Mapping[str, Any]) -> str:
    """Every metric over epochs in the same x as the reward, then held-out rewards against it; empty without looks."""
    looks = _looks(panel)
    if not looks:
        return ""
    onsets = [alarm.epoch for alarm in alarms(looks) if alarm.is_onset]
    held_out = [str(name) for name in panel["held_out"]]
    charts = "".join(_over_epochs(looks, name, held_out, onsets) for name in looks[-1].changes)
    paths = "".join(_against_reward(looks, name) for name in held_out)
    path_note = " Last, held-out against trained reward: the path starts at the base model." if paths else ""
    return (
        "<section id='panel'><h2>Is the reward being hacked?</h2><p class='note'>"
        f"{escape(_verdict(looks, onsets))} Means over {escape(str(panel['num_prompts']))} prompts, "
        f"{escape(str(panel['group_size']))} "
        f"picture{'s' * (panel['group_size'] != 1)} each; epoch 0 is the base model. Band: "
        f"{escape(_percent(panel['level']))} interval of the change from it, by bootstrap over prompts. An alarm "
        f"is raised by a held-out reward that falls, and by {', '.join(map(_words, COLLAPSE_METRICS))} only when one "
        f"loses more than {_percent(COLLAPSE_SHARE)}; the rest is there to be seen.{path_note}</p>"
        f"<div class='multiples'>{charts}{paths}</div></section>"
    )


def _looks(panel: Mapping[str, Any]) -> list[Look]:
    return [Look.from_record(record) for record in panel.get("looks", [])]


def _verdict(looks: Sequence[Look], onsets: Sequence[int]) -> str:
    if onsets:
        return f"Alarm at epoch {', '.join(map(str, onsets))}, marked in the charts."
    if len(looks) < LOOKS:
        return f"Too early to say: an alarm needs {LOOKS} evaluations in a row."
    return f"No alarm in {len(looks)} evaluations."


def _sentence(alarm: Alarm) -> str:
    fallen = " and ".join(_change(change) for change in alarm.fallen)
    return f"{_change(alarm.reward)}, {fallen}"


def _change(change: Change) -> str:
    low, high = (_signed(end) for end in change.interval)
    return (
        f"<b>{escape(_words(change.metric))}</b> {change.base:.3f} → {change.now:.3f} "
        f"<small>({_signed(change.change)}, {low} to {high})</small>"
    )


def _over_epochs(looks: Sequence[Look], name: str, held_out: Sequence[str], onsets: Sequence[int]) -> str:
    changes = [look.changes[name] for look in looks]
    epochs = [0, *(look.epoch for look in looks)]
    spread = [0.0, *((change.interval[1] - change.interval[0]) / 2 for change in changes)]
    line = Line(name, epochs, [changes[0].base, *(change.now for change in changes)], spread, smooth=False)
    label = "trained on" if name == "reward" else "held out" if name in held_out else _MEANINGS.get(name, "")
    return line_chart(
        [line], title=_words(name), x_label="epoch", y_label=label, width=_WIDTH, height=_HEIGHT,
        markers=[(epoch, "alarm") for epoch in onsets],
    )  # fmt: skip


def _against_reward(looks: Sequence[Look], name: str) -> str:
    changes = [(look.changes["reward"], look.changes[name]) for look in looks]
    rewards = [changes[0][0].base, *(reward.now for reward, _ in changes)]
    values = [changes[0][1].base, *(other.now for _, other in changes)]
    return line_chart(
        [Line(name, rewards, values, smooth=False)], title=f"{_words(name)} against reward", x_label="reward",
        y_label=_words(name), width=_WIDTH, height=_HEIGHT, whole_x=False,
    )  # fmt: skip


def _words(name: str) -> str:
    return name.replace("_", " ")


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
