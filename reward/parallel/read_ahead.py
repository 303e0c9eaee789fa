"""Read items in background threads while earlier results are used, in order and only a few items ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_WORKERS = 8


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Result], workers: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, read(item)) in the order of `items`. `read` runs in threads, at most `workers` + 1 items ahead.

    If `read` raises an error for an item, it is raised when that item is due. Closing the generator waits for the items
    that are being read.

    Args:
        items: taken one by one, in the calling thread.
        read: called in a thread.
        workers: number of threads; by default one per core, at most 8.

    Example:
        >>> list(read_ahead([1, 2, 3], lambda number: number * number))
        [(1, 1), (2, 4), (3, 9)]
    """
    workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    under_way: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read_ahead") as pool:
        try:
            for item in items:
                under_way.append((item, pool.submit(read, item)))
                if len(under_way) > workers + 1:
                    item, future = under_way.popleft()
                    yield item, future.result()
            while under_way:
                item, future = under_way.popleft()
                yield item, future.result()
        finally:
            for _, future in under_way:
                future.cancel()
