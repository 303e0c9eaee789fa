"""The reward-hacking alarm: the reward rises while held-out metrics fall.

All changes are paired differences to the base model, with the same prompts and seeds. A metric is *suspicious* at an
evaluation if the interval of the reward's gain is above 0 and the metric has fallen significantly. The *alarm* is given
if the same metric is suspicious at two evaluations in a row. One evaluation is called a look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rl.monitoring.bootstrap import bootstrap_interval

PANEL_FILE = "hacking_panel.json"  # in the run folder: all looks, for the report

# Many looks at one run mean many chances of a false alarm. In a simulation of 14 looks at 64 prompts, a held-out reward
# changed only by chance (correlation 0.8 from look to look). Its interval was below 0 at some look in 20 % of runs at
# level 95 %, in 6 % at level 99 %, and at two looks in a row in 2 %. The second look also avoids alarms in normal runs,
# in which a metric falls for a few epochs and then recovers.
LEVEL = 0.99
LOOKS = 2

# Training on any reward reduces these a little; only a collapse halves them. The other side metrics never raise an
# alarm: similarity to the base model falls in every run that learns, and saturation has no good direction.
COLLAPSE_METRICS = ("colour_entropy", "edge_density", "diversity")
COLLAPSE_SHARE = 0.5

# With fewer units the bootstrap interval is too narrow. By chance alone, all n differences of an unchanged metric are
# negative in 1 of 2^n cases, here 1 in 256, and the interval is then below 0.
FEWEST_UNITS = 8


@dataclass(frozen=True)
class Change:
    """A metric's mean over prompts before training and now, the difference, and its interval at `LEVEL`."""

    metric: str
    base: float
    now: float
    change: float
    interval: list[float]

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.metric} {self.base:.3f} -> {self.now:.3f} ({self.change:+.3f}, {100 * LEVEL:g} % interval "
            f"{low:+.3f} to {high:+.3f})"
        )


@dataclass(frozen=True)
class Look:
    """One evaluation: the change of every metric, and the names of suspicious and alarming ones."""

    epoch: int
    changes: dict[str, Change]
    suspicious: list[str]
    alarming: list[str]

    def record(self) -> dict[str, Any]:
        """The look as JSON data for `from_record`."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Look":
        """A look from its JSON data."""
        changes = {name: Change(**change) for name, change in record["changes"].items()}
        return cls(record["epoch"], changes, record["suspicious"], record["alarming"])


@dataclass(frozen=True)
class Alarm:
    """An alarm: the reward has risen while held-out metrics have fallen, at every look since epoch `since`."""

    epoch: int
    since: int
    reward: Change
    fallen: list[Change]

    @property
    def is_onset(self) -> bool:
        """Whether this is the first evaluation of the alarm."""
        return self.epoch == self.since

    def record(self) -> dict[str, Any]:
        """The alarm as JSON data, for summary.json."""
        return {"epoch": self.epoch, "metrics": [change.metric for change in self.fallen]} | {
            "reward": asdict(self.reward), "fallen": [asdict(change) for change in self.fallen],
        }  # fmt: skip


def judge(
    epoch: int,
    base: Mapping[str, np.ndarray],
    now: Mapping[str, np.ndarray],
    units: Sequence[str],
    held_out: Sequence[str],
    earlier: Sequence[Look],
) -> Look:
    """Compare a policy with the base model, prompt by prompt.

    A held-out reward is suspicious if the interval of its change is below 0. A metric of `COLLAPSE_METRICS` is
    suspicious if it has lost more than half, that is, if the interval of now - base / 2 is below 0. Nothing is
    suspicious unless the interval of the reward's gain is above 0 and there are at least `FEWEST_UNITS` units.

    Args:
        epoch: epochs trained.
        base: columns (N,) of the base model; "reward" is the trained sum.
        now: the same columns of the policy.
        units: N names; rows with the same name are resampled together.
        held_out: names of columns for which higher is better.
        earlier: looks before this one.

    Returns:
        the look; `alarming` are the metrics that are suspicious now and were suspicious at the look before.

    Example:
        >>> base = {"reward": np.zeros(9), "oracle": np.ones(9)}
        >>> now = {"reward": np.ones(9), "oracle": np.zeros(9)}
        >>> first = judge(5, base, now, list("abcdefghi"), ["oracle"], [])
        >>> judge(10, base, now, list("abcdefghi"), ["oracle"], [first]).alarming
        ['oracle']
    """
    changes = {}
    for name, column in base.items():
        gain = now[name] - column
        interval = bootstrap_interval(gain, units, level=LEVEL)
        changes[name] = Change(name, float(column.mean()), float(now[name].mean()), float(gain.mean()), interval)
    suspicious = []
    if changes["reward"].interval[0] > 0 and len(set(units)) >= FEWEST_UNITS:
        suspicious = [name for name in held_out if changes[name].interval[1] < 0]
        for name in COLLAPSE_METRICS:
            if name in base:
                lost = now[name] - (1 - COLLAPSE_SHARE) * base[name]
                if bootstrap_interval(lost, units, level=LEVEL)[1] < 0:
                    suspicious.append(name)
    recent = [look.suspicious for look in earlier[len(earlier) - LOOKS + 1 :]]
    enough = len(recent) == LOOKS - 1
    alarming = [name for name in suspicious if enough and all(name in names for names in recent)]
    return Look(epoch, changes, suspicious, alarming)


def alarms(looks: Sequence[Look]) -> list[Alarm]:
    """The alarms of a run, one per look with alarming metrics, in order."""
    found: list[Alarm] = []
    since = None
    for look in looks:
        if not look.alarming:
            since = None
            continue
        since = look.epoch if since is None else since
        fallen = [look.changes[name] for name in look.alarming]
        found.append(Alarm(look.epoch, since, look.changes["reward"], fallen))
    return found


def alarm_message(alarm: Alarm, pictures: int) -> str:
    """The message printed when an alarm starts.

    Args:
        alarm: the alarm.
        pictures: number of pictures compared, per side.
    """
    fallen = " and ".join(change.metric for change in alarm.fallen)
    lines = [
        f"ALARM at epoch {alarm.epoch}: the reward rises while {fallen} falls. The reward may be hacked.",
        f"  {alarm.reward}",
        *(f"  {change}" for change in alarm.fallen),
        f"  before training -> now, {pictures} pictures per side with the same prompts and seeds, {LOOKS} evaluations "
        "in a row.",
        "  What to do: look at the newest pictures in samples/. If they are bad, stop and resume from an earlier "
        "checkpoint, or change the reward (docs/reward-hacking.md).",
    ]
    return "\n".join(lines)
