"""The report's reward-hacking panel: reward, held-out rewards and side metrics over epochs, and the alarms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward.pages.chart import Chart
from reward.pages.line_chart import Line, line_chart
from rl.monitoring.hacking_alarm import COLLAPSE_METRICS, COLLAPSE_SHARE, LOOKS, Change, Look, alarms

_WIDTH, _HEIGHT = 360, 220  # of one small chart, in pixels
_MEANINGS = {
    "similarity_to_base": "1: the base model's pictures",
    "colour_entropy": "bits",
    "edge_density": "share of pixels",
    "saturation": "0 grey, 1 pure",
    "diversity": "between pictures of a prompt",
}


@dataclass(frozen=True)
class AlarmLine:
    """An alarm in the box at the top of the report: the changes of the reward and of the metrics that fell."""

    epoch: int
    changes: list[Change]


@dataclass(frozen=True)
class Panel:
    """The values that the panel shows; `num_prompts` and `group_size` are taken from the file as they are."""

    verdict: str
    alarms: list[AlarmLine]
    num_prompts: Any
    group_size: Any
    level: str
    collapse_metrics: list[str]
    collapse_share: str
    looks_in_a_row: int
    charts: list[Chart]
    paths: list[Chart]


def panel_values(panel: Mapping[str, Any]) -> Panel | None:
    """The panel's values: every metric over epochs, then each held-out reward against the trained reward.

    Args:
        panel: content of hacking_panel.json.

    Returns:
        None if there was no evaluation yet.
    """
    looks = [Look.from_record(record) for record in panel.get("looks", [])]
    if not looks:
        return None
    onsets = [alarm for alarm in alarms(looks) if alarm.is_onset]
    epochs = [alarm.epoch for alarm in onsets]
    held_out = [str(name) for name in panel["held_out"]]
    return Panel(
        verdict=_verdict(looks, epochs),
        alarms=[AlarmLine(alarm.epoch, [alarm.reward, *alarm.fallen]) for alarm in onsets],
        num_prompts=panel["num_prompts"],
        group_size=panel["group_size"],
        level=_percent(panel["level"]),
        collapse_metrics=[_words(name) for name in COLLAPSE_METRICS],
        collapse_share=_percent(COLLAPSE_SHARE),
        looks_in_a_row=LOOKS,
        charts=[_over_epochs(looks, name, held_out, epochs) for name in looks[-1].changes],
        paths=[_against_reward(looks, name) for name in held_out],
    )


def _verdict(looks: Sequence[Look], onsets: Sequence[int]) -> str:
    if onsets:
        return f"Alarm at epoch {', '.join(map(str, onsets))}, marked in the charts."
    if len(looks) < LOOKS:
        return f"Too early to say: an alarm needs {LOOKS} evaluations in a row."
    return f"No alarm in {len(looks)} evaluations."


def _over_epochs(looks: Sequence[Look], name: str, held_out: Sequence[str], onsets: Sequence[int]) -> Chart:
    changes = [look.changes[name] for look in looks]
    epochs = [0, *(look.epoch for look in looks)]
    spread = [0.0, *((change.interval[1] - change.interval[0]) / 2 for change in changes)]
    line = Line(name, epochs, [changes[0].base, *(change.now for change in changes)], spread, smooth=False)
    label = "trained on" if name == "reward" else "held out" if name in held_out else _MEANINGS.get(name, "")
    return line_chart(
        [line], title=_words(name), x_label="epoch", y_label=label, width=_WIDTH, height=_HEIGHT,
        markers=[(epoch, "alarm") for epoch in onsets],
    )  # fmt: skip


def _against_reward(looks: Sequence[Look], name: str) -> Chart:
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
