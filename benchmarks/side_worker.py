"""The process of one side of a comparison. For each line of JSON on stdin it runs an epoch and prints its cost as JSON.

python -m benchmarks.side_worker MODULE:CLASS SETTINGS_AS_JSON

The class is constructed with the settings. Its `run_epoch` is called with the values of each line as keyword arguments
and returns a record. `benchmarks.sides` starts this process.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

import torch


def reset_peak() -> None:
    """Reset the kernel's peak of this process's resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> float:
    """A field of /proc/self/status in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def main(target: str, settings: dict) -> None:
    """Run epochs until stdin closes."""
    # Libraries print to stdout, so the answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    module, _, name = target.partition(":")
    try:
        worker = getattr(importlib.import_module(module), name)(settings)
        ready = memory("VmRSS")
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            reset_peak()
            before, cpu = memory("VmRSS"), time.process_time()
            record = worker.run_epoch(**json.loads(line))
            record |= {"cpu_seconds": time.process_time() - cpu}
            record |= {"peak_mb": memory("VmHWM"), "rise_mb": memory("VmHWM") - before}
            record |= {"ready_mb": ready}
            print(json.dumps(record), file=answers, flush=True)
    except Exception as error:  # noqa: BLE001
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        raise


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
