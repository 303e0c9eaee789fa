"""Run each measurement in its own process: `measured(function, case)` runs the function in a fork.

With a fork, the libraries are loaded only once. Peak memory is the kernel's (`getrusage`) and starts at the parent's
memory.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def measured(function: Callable[[Row], Row], case: Row) -> Row:
    """Run `function(case)` in its own process; returns its row, `peak_mb` and `start_mb`, the memory at the start."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(_run, (function, case))


def in_turns(
    function: Callable[[Row], Row], cases: list[Row], repeats: int, keep: Callable[[list[Row]], Any]
) -> list[Row]:
    """Run every case `repeats` times, in alternating order, so that a slow hour of the machine affects all cases.

    Args:
        keep: called after each case with all rows so far.
    """
    rows: list[Row] = []
    for repeat in range(repeats):
        for case in cases if repeat % 2 == 0 else cases[::-1]:
            rows.append(case | {"repeat": repeat} | measured(function, case))
            print(*(f"{name} {value}" for name, value in rows[-1].items()), sep="  ", flush=True)
            keep(rows)
    return rows


def _run(function: Callable[[Row], Row], case: Row) -> Row:
    start, cpu = _peak_mb(), time.process_time()
    row = function(case)
    return row | {"cpu_seconds": time.process_time() - cpu, "start_mb": start, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
