"""Work in threads that never keep a run from ending: one that hangs dies with the process."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class BackgroundThreads:
    """Does what `submit` is given in up to `count` threads, first come, first served.

    A `ThreadPoolExecutor` is waited for when it is left and again when Python ends; with a function that never returns
    neither an error nor Ctrl-C would then end the process.

    Example:
        >>> with BackgroundThreads(2) as threads:
        ...     threads.submit(sum, [1, 2]).result()
        3
    """

    def __init__(self, count: int) -> None:
        self._work: queue.SimpleQueue = queue.SimpleQueue()
        self._count, self._started = count, 0

    def __enter__(self) -> "BackgroundThreads":
        return self

    def __exit__(self, *_: Any) -> None:
        for _ in range(self._started):
            self._work.put(None)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """The future of `function(*arguments)`."""
        future: Future = Future()
        self._work.put((future, function, arguments))
        if self._started < self._count:
            self._started += 1
            threading.Thread(target=self._run, daemon=True, name=f"background_{self._started}").start()
        return future

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, function, arguments = item
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
