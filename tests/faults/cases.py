"""All faults by name: (command, fault) -> the function that makes one round of it.

A round gets (world, command, random, output folder), raises AssertionError where something is lost or unclear, and
returns the outcome (clear error or recovery) and what it saw.
"""

from tests.faults import disks, rewards, stops
from tests.faults.commands import COMMANDS, TRAINERS

_EVALUATOR = ("score", "train")
_FAULTS = {
    "kill -9 before a change on the disk": (stops.killed, COMMANDS),
    "kill -9 at any time": (stops.killed_any_time, COMMANDS),
    "SIGTERM": (stops.terminated, COMMANDS),
    "Ctrl-C": (stops.interrupted, COMMANDS),
    "one of two processes killed": (stops.worker_lost, COMMANDS),
    "disk full": (disks.full_disk, COMMANDS),
    "file too large (quota)": (disks.file_too_large, COMMANDS),
    "input unreadable": (disks.unreadable, COMMANDS),
    "output not writable": (disks.unwritable, COMMANDS),
    "byte flipped in what is resumed": (disks.flipped_byte, COMMANDS),
    "file cut short in what is resumed": (disks.cut_short, COMMANDS),
    "byte flipped in the feature cache": (disks.damaged_cache, ("train",)),
    "reward raises": (rewards.raises, TRAINERS),
    "reward hangs, reward_timeout": (rewards.hangs, TRAINERS),
    "reward hangs, no limit": (rewards.hangs_without_limit, TRAINERS),
    "reward is NaN": (rewards.nan, TRAINERS),
    "reward is infinite": (rewards.infinite, TRAINERS),
    "reward of the wrong shape": (rewards.wrong_shape, TRAINERS),
    "reward is text": (rewards.no_numbers, TRAINERS),
    "NaN in model or table": (rewards.nan_in_the_inputs, _EVALUATOR),
    "weights of the wrong shape": (rewards.wrong_shape_of_weights, ("score",)),
}

CASES = {(command, fault): function for fault, (function, commands) in _FAULTS.items() for command in commands}
