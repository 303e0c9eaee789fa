"""One measurement, one process: `measured(function, case)` runs in a fork that ends with it.

A fork, so that the libraries are loaded once; its largest resident size is the kernel's, `getrusage`, and begins at
what the parent had.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def measured(function: Callable[[Row], Row], case: Row) -> Row:
    """`function(case)` in a process of its own; its row, with `peak_mb` and `start_mb`, the size it began with."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(_run, (function, case))


def in_turns(
    function: Callable[[Row], Row], cases: list[Row], repeats: int, keep: Callable[[list[Row]], Any]
) -> list[Row]:
    """Rows of every case, `repeats` times: forwards, then backwards, so that a slow hour falls on all alike.

    Args:
        keep: called with the rows so far after each.
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
