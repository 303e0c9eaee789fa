"""Background threads that cannot keep the process alive: a thread that hangs ends with the process."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class BackgroundThreads:
    """Run submitted functions in up to `count` daemon threads, in order of submission.

    `ThreadPoolExecutor` waits for its threads when its context ends and again when Python exits. If a function never
    returned, neither an error nor Ctrl-C could then end the process.

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
        """Run `function(*arguments)` in a thread; returns a future with its result or its error."""
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
