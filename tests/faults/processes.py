"""Processes to do harm to: forked from one that has imported everything, so that each costs a second and not ten."""

import contextlib
import fcntl
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults import harm

ROOT = Path(__file__).resolve().parents[2]
# Far longer than any run takes: a run that is still there then is hung.
PATIENCE = float(os.environ.get("HYPERALIGN_FAULT_PATIENCE", "240"))
_PIPE_BYTES = 1 << 20
_context = multiprocessing.get_context("forkserver")


class Hung(AssertionError):
    """A process that had to end did not."""


def start_server() -> None:
    """Start the process that all others are forked from; it imports what the commands would."""
    _context.set_forkserver_preload(["tests.faults.preload"])
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS", "HF_HUB_OFFLINE")}
    os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


class Run:
    """One process of a command, and what it says.

    Args:
        command: the module whose `main` is called, e.g. rl.ddpo_train.
        words: its arguments.
        scratch: where the pipe for its output lies.
        environment: variables on top of this process's.
        harms: names of functions in `tests.faults.harm` and what they are called with, before `main` is.
    """

    def __init__(
        self, command: str, words: list[str], scratch: Path, environment: dict[str, str] | None = None, **harms: Any
    ) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        path = scratch / f"output_{time.monotonic_ns()}"
        # A pipe and not a file: limits on files and full disks must not swallow the message that is looked for.
        os.mkfifo(path)
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._said = b""
        self.process = _context.Process(
            target=_work, args=(command, [str(word) for word in words], str(path), environment or {}, harms)
        )
        self.process.start()
        self.pid = self.process.pid

    @property
    def said(self) -> str:
        """Both outputs, so far."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._pipe, 1 << 16):
                self._said += part
        return self._said.decode(errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.exitcode is not None

    def send(self, number: int) -> None:
        """A signal, to the process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code, negative for a signal.

        Raises:
            Hung: it has not ended; then it is killed.
        """
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        said = self.said
        os.close(self._pipe)
        self._pipe = os.open(os.devnull, os.O_RDONLY)
        if code is None:
            raise Hung(f"It had not ended after {seconds:.0f} s, and said: {said[-2000:]}")
        return code

    def wait_until(self, condition: Any, seconds: float = PATIENCE) -> bool:
        """Whether `condition()` came true while the process ran."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return True
            if self.ended:
                return condition()
            time.sleep(0.002)
        return False


def call(function: Any, *arguments: Any) -> None:
    """Run a function where the imports are: what needs diffusers is slow here."""
    process = _context.Process(target=function, args=arguments)
    process.start()
    process.join(PATIENCE)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"Expected {function.__name__} to end with 0, got {process.exitcode}.")


def _work(command: str, words: list[str], output: str, environment: dict[str, str], harms: dict[str, Any]) -> None:
    import importlib

    descriptor = os.open(output, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ |= environment | {"OMP_NUM_THREADS": "1"}
    os.chdir(ROOT)
    os.setpgid(0, 0)
    # What a shell gives a command that it starts; a background job of a script would not be interrupted by SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    torch.set_num_threads(1)
    main = importlib.import_module(command).main

    def run() -> None:
        code = main(words)
        sys.exit(code or 0)

    for name, value in harms.items():
        run = getattr(harm, name)(run, value)
    run()
