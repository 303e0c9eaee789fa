"""`hyperalign serve` in a process of its own, on a free port of this machine."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(*words: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """(URL, process) of a server with these arguments, stopped by SIGTERM at the end of the block.

    Without `--model` it serves the tiny world's.
    """
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1"}
    model = () if "--model" in words else ("--model", "tinyworld")
    command = [sys.executable, "-m", "reward.cli", "serve", "--port", "0", *model, *words]
    process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    stop = threading.Timer(120, process.kill)
    stop.start()
    line = process.stdout.readline()
    stop.cancel()
    if "http://" not in line:
        raise RuntimeError(f"Expected the server's address, got {line!r}.")
    try:
        yield line.split(": ")[1].split()[0], process
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()


def resident_mb(pid: int) -> float:
    """Memory of a process, MiB."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
