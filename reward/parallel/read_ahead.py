"""Work done in background threads while its results are used: in order, and never far ahead."""

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
    """(item, read(item)) in the order of `items`; `read` runs in threads, at most `workers` + 1 items ahead.

    What `read` raises is raised when its item's turn comes. Closing the generator waits for the items under way.

    Args:
        items: pulled one by one, in the calling thread.
        workers: threads; by default one a core, at most 8.

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
