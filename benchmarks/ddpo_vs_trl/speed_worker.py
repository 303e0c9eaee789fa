"""One side of the speed comparison, alive and waiting: a line on stdin is an epoch, a line of JSON on stdout its cost.

python -m benchmarks.ddpo_vs_trl.speed_worker ours|trl SETTINGS_AS_JSON
"""

import json
import os
import sys
import time
from pathlib import Path

import torch


def reset_peak() -> None:
    """Start the kernel's record of this process's largest resident size anew."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> float:
    """A field of /proc/self/status in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def main(side: str, settings: dict) -> None:
    """Serve epochs until stdin closes."""
    # Libraries print; the answers go to a copy of stdout that they do not know.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    if side == "ours":
        from benchmarks.ddpo_vs_trl.our_side import OurSide as Side
    else:
        from benchmarks.ddpo_vs_trl.trl_side import TrlSide as Side
    try:
        worker = Side(settings)
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for _ in sys.stdin:
            reset_peak()
            before, cpu = memory("VmRSS"), time.process_time()
            record = worker.run_epoch()
            record |= {"cpu_seconds": time.process_time() - cpu}
            record |= {"peak_mb": memory("VmHWM"), "rise_mb": memory("VmHWM") - before}
            print(json.dumps(record), file=answers, flush=True)
    except Exception as error:  # noqa: BLE001
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        raise


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
