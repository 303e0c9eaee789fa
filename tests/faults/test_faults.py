"""Each fault, for each command that it can meet: a clear error or a recovery, and nothing that was finished is lost.

HYPERALIGN_FAULT_ROUNDS=N tries each N times, at other random moments (1); benchmarks/faults/run.py makes a table of it.
"""

import os
from random import Random

import pytest

from tests.faults.cases import CASES
from tests.faults.commands import build_world

ROUNDS = int(os.environ.get("HYPERALIGN_FAULT_ROUNDS", "1"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(("command", "fault"), CASES, ids=[f"{command}-{fault}" for command, fault in CASES])
def test_fault(world, command, fault, tmp_path):
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        CASES[command, fault](world, command, Random(f"{command} {fault} {number}"), folder)
