"""Is the reward rising at the expense of what it stands for? Paired changes since before training, and the alarm.

A *suspicion* at one evaluation: the reward's gain over the base model (same prompts, same seeds) has an interval wholly
above 0, and a held-out metric has fallen beyond its noise. The *alarm*: the same metric is suspicious at two
evaluations in a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rl.monitoring.bootstrap import bootstrap_interval

PANEL_FILE = "hacking_panel.json"  # in the run folder: the looks, which the report draws

# A run is looked at many times. In a simulation of 14 looks at 64 prompts, a held-out reward that only drifts about no
# change (correlation 0.8 from look to look) lies wholly below 0 at some look of 20 % of runs at the 95 % level, of 6 %
# at 99 %, and at two looks in a row of 2 %. The second look also waits out the ordinary run whose reward gains a few
# epochs before the metric that it drags along recovers.
LEVEL = 0.99
LOOKS = 2

# What training on any reward narrows a little, and what only a collapse halves. The other measures never raise an
# alarm: similarity to the base falls in every run that learns, saturation has no good direction.
COLLAPSE_METRICS = ("colour_entropy", "edge_density", "diversity")
COLLAPSE_SHARE = 0.5

# Bootstrapping fewer promises more than it holds: signs alone agree in 1 of 2^n unchanged metrics, 1 in 256 here.
FEWEST_UNITS = 8


@dataclass(frozen=True)
class Change:
    """A metric before training and now: means over prompts, their difference and its interval at `LEVEL`."""

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
    """One evaluation: every metric's change, and which held-out metrics are suspicious or raise the alarm."""

    epoch: int
    changes: dict[str, Change]
    suspicious: list[str]
    alarming: list[str]

    def record(self) -> dict[str, Any]:
        """As JSON data; `from_record` reads it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Look":
        """A look from its JSON data."""
        changes = {name: Change(**change) for name, change in record["changes"].items()}
        return cls(record["epoch"], changes, record["suspicious"], record["alarming"])


@dataclass(frozen=True)
class Alarm:
    """The reward has risen while held-out metrics have fallen; `since` is the epoch of the alarm's onset."""

    epoch: int
    since: int
    reward: Change
    fallen: list[Change]

    @property
    def is_onset(self) -> bool:
        """Whether the evaluation before this one gave no alarm."""
        return self.epoch == self.since

    def record(self) -> dict[str, Any]:
        """As JSON data, for summary.json."""
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

    A held-out reward is suspicious when its change's interval lies wholly below 0; a metric of `COLLAPSE_METRICS` when
    it has lost more than half, that is when the interval of now - base / 2 lies wholly below 0. Nothing is while the
    interval of the reward's gain does not lie wholly above 0, or with fewer than `FEWEST_UNITS` units.

    Args:
        epoch: epochs trained.
        base: columns (N,) of the base model; "reward" is the trained sum.
        now: the same columns of the policy.
        units: N names; rows with the same name are drawn together.
        held_out: names of columns for which higher is better.
        earlier: looks before this one.

    Returns:
        the look; its `alarming` names metrics that were suspicious at the look before, too.

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
    """Every look that gives an alarm, in order."""
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
    """What is printed at an alarm's onset.

    Args:
        alarm: the alarm.
        pictures: how many pictures a side were compared.
    """
    fallen = " and ".join(change.metric for change in alarm.fallen)
    lines = [
        f"ALARM at epoch {alarm.epoch}: the reward rises while {fallen} falls. The reward may be being hacked.",
        f"  {alarm.reward}",
        *(f"  {change}" for change in alarm.fallen),
        f"  before training -> now, {pictures} pictures a side with the same prompts and seeds, {LOOKS} evaluations in "
        "a row.",
        "  What to do: look at the newest pictures in samples/; stop and go on from an earlier checkpoint, or change "
        "the reward (docs/reward-hacking.md).",
    ]
    return "\n".join(lines)
