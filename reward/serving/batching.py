"""Requests that arrive together are scored together: one queue, one thread that owns the model.

While the model works, what arrives waits and makes up its next batch. An idle model starts at once, unless another
request is on its way (being received or decoded): for that one it waits, but never longer than the latency bound.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from reward.serving.limits import Refused

Score = Callable[[list[Tensor], list[str]], list[float]]


@dataclass
class _Job:
    """Pictures of one request, or anything else that needs the model; alone in its batch or not."""

    pictures: list[Tensor]
    prompts: list[str]
    alone: bool
    function: Callable[[], Any] | None = None
    answer: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    came: float = field(default_factory=time.monotonic)


class Batcher:
    """Collects requests into batches for a model that only one thread touches.

    Args:
        score: (list of (3,H,W), list of prompts) -> one number each.
        batch_size: pictures that the model gets at a time.
        most_wait: seconds that an idle model waits for a request that is on its way.
        most_queued: pictures that may wait; beyond, `score` raises `Refused` with status 429.
        begin_alone: called before a request that is alone in its batch, so that its scores depend on nothing earlier.
        tell: called with the size of each batch.

    Example:
        >>> with Batcher(model, batch_size=32) as batcher:  # doctest: +SKIP
        ...     await batcher.score([picture], ["a red ring"])
    """

    def __init__(
        self,
        score: Score,
        *,
        batch_size: int = 32,
        most_wait: float = 0.005,
        most_queued: int = 16384,
        begin_alone: Callable[[], None] = lambda: None,
        tell: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._score, self._begin_alone, self._tell = score, begin_alone, tell
        self.batch_size, self.most_wait, self.most_queued = batch_size, most_wait, most_queued
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.waiting = 0  # pictures
        self._coming = 0  # requests
        self._seconds = 0.01  # for one picture, smoothed
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def __enter__(self) -> "Batcher":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Answer what is queued, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    @contextmanager
    def coming(self):
        """Around receiving and decoding a request: an idle model waits for it for a moment."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify_all()

    async def score(self, pictures: Sequence[Tensor], prompts: Sequence[str], alone: bool = False) -> list[float]:
        """Scores of a request, in its order.

        Args:
            alone: in batches of this request alone, as a local call would make them: the same request then has the
                same scores to the last bit, whoever else asks.

        Raises:
            Refused: 429 with the time after which the queue will have room.
        """
        return await self._queued(_Job(list(pictures), list(prompts), alone))

    async def run(self, function: Callable[[], Any], pictures: int) -> Any:
        """What `function()` returns, called where the model may be used; counts as so many pictures."""
        return await self._queued(_Job([None] * pictures, [], True, function))

    async def _queued(self, job: _Job) -> Any:
        with self._changed:
            count = len(job.pictures)
            if self._closed or self.waiting + count > self.most_queued:
                raise Refused(
                    429, f"The server is busy: {self.waiting} pictures wait and {self.most_queued} may. Ask later.",
                    retry_after=max(1.0, self.waiting * self._seconds),
                )  # fmt: skip
            self.waiting += count
            self._jobs.append(job)
            self._changed.notify_all()
        return await job.answer

    def _work(self) -> None:
        while batch := self._next_batch():
            self._do(batch)

    def _next_batch(self) -> list[_Job]:
        """The oldest job and those that fit beside it; nothing once the batcher is closed and the queue empty."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return []
                self._changed.wait()
            until = self._jobs[0].came + self.most_wait
            while self._coming and not self._closed and not self._is_full():
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch = [self._jobs.popleft()]
            size = len(batch[0].pictures)
            while self._jobs and not (batch[0].alone or self._jobs[0].alone):
                size += len(self._jobs[0].pictures)
                if size > self.batch_size:
                    break
                batch.append(self._jobs.popleft())
            return batch

    def _is_full(self) -> bool:
        return self._jobs[0].alone or sum(len(job.pictures) for job in self._jobs) >= self.batch_size

    def _do(self, batch: list[_Job]) -> None:
        started = time.monotonic()
        try:
            answers = self._answers(batch)
        except Exception as error:
            if len(batch) > 1:  # one of them is at fault: the others shall not suffer
                for job in batch:
                    self._do([job])
                return
            answers = [error]
        count = sum(len(job.pictures) for job in batch)
        with self._changed:
            # before the answers: who has one and asks again must not be told that the queue is full of it
            self.waiting -= count
        # once a batch: each call wakes the other thread
        batch[0].answer.get_loop().call_soon_threadsafe(_give, [job.answer for job in batch], answers)
        self._seconds += 0.1 * ((time.monotonic() - started) / count - self._seconds)

    def _answers(self, batch: list[_Job]) -> list[Any]:
        if batch[0].alone:
            self._begin_alone()
        if batch[0].function:
            return [batch[0].function()]
        pictures = [picture for job in batch for picture in job.pictures]
        prompts = [prompt for job in batch for prompt in job.prompts]
        scores: list[float] = []
        for start in range(0, len(pictures), self.batch_size):
            part = slice(start, start + self.batch_size)
            self._tell(len(pictures[part]))
            scores += self._score(pictures[part], prompts[part])
        if len(scores) != len(pictures):
            raise RuntimeError(f"Expected {len(pictures)} scores of the model but got {len(scores)}.")
        ends = [sum(len(job.pictures) for job in batch[: number + 1]) for number in range(len(batch))]
        return [scores[end - len(job.pictures) : end] for job, end in zip(batch, ends, strict=True)]


def _give(futures: Sequence[asyncio.Future], answers: Sequence[Any]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # the client has gone
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
