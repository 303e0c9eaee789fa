"""Scoring on several GPUs, cores or machines through Ray: an actor each, parts as they become free.

The parts are those of a plain run and are written by the driver, so that the file is the same to the last byte, and a
run that was cut goes on with either engine. A worker that dies is restarted by Ray, and its part is scored again.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reward.scoring.parts import Record
    from reward.scoring.score import Part

# Parts under way for each worker: one that it scores, one that waits for it.
_AHEAD = 2


class RayEngine:
    """Workers that each hold the reward.

    Args:
        model: name or folder as `reward.named_models.load_model` takes it, on every machine.
        dtype: see `reward.scoring.precision`.
        workers: how many; None: one a GPU of the cluster, or a core where there is none.

    Raises:
        ImportError: without the extra `ray`.
        MissingWeightsError, ValueError: see `load_model`.

    Example:
        >>> with RayEngine("models/mine", workers=2) as engine:  # doctest: +SKIP
        ...     score_to_file(None, find_rows(["photos"]), Path("scores.csv"), engine=engine)
    """

    def __init__(self, model: str, dtype: str = "float32", workers: int | None = None):
        # it reports to its makers who uses it unless told
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # its workers are nice by 15: beside anything else on the machine they take minutes to start
        os.environ.setdefault("RAY_worker_niceness", "0")
        try:
            import ray
        except ImportError as error:
            raise ImportError('Expected ray for --engine ray; pip install "hyperalign[ray]"') from error
        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        count = workers or gpus or int(there.get("CPU", 1))
        options = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        remote = ray.remote(max_restarts=-1, max_task_retries=-1, **options)(_Worker)
        self._workers = [remote.remote(model, dtype) for _ in range(count)]

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *_: Any) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        if self._started:
            self._ray.shutdown()

    def model_key(self) -> str:
        """`model_digest` of what the workers hold."""
        return self._answer(self._workers[0].model_key.remote())

    def pids(self) -> list[int]:
        """Process of each worker, on its machine."""
        return self._answer([worker.pid.remote() for worker in self._workers])

    def score_parts(
        self, parts: Iterable["Part"], batch_size: int, advance: Callable[[int], object]
    ) -> Iterator[tuple["Part", list["Record"]]]:
        """As `reward.scoring.score.score_parts`, in the order in which parts are finished; a few are under way."""
        parts = iter(parts)
        free = deque(worker for _ in range(_AHEAD) for worker in self._workers)
        under_way: dict[Any, tuple[Part, Any]] = {}
        while True:
            while free and (part := next(parts, None)) is not None:
                worker = free.popleft()
                under_way[worker.score.remote(part, batch_size)] = (part, worker)
            if not under_way:
                return
            [done], _ = self._ray.wait(list(under_way), num_returns=1)
            part, worker = under_way.pop(done)
            free.append(worker)
            records = self._answer(done)
            advance(len(part.rows))
            yield part, records

    def _answer(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, (OSError, ValueError, TypeError)) else error from None


class _Worker:
    """One process with the reward; loaded at its first call, so that what is wrong with the model is that call's."""

    def __init__(self, model: str, dtype: str):
        self._model, self._dtype, self._reward = model, dtype, None

    def _loaded(self) -> Any:
        if self._reward is None:
            import torch

            from reward.named_models import load_model
            from reward.scoring.precision import set_precision

            self._reward = load_model(self._model, "cuda" if torch.cuda.is_available() else "cpu")
            set_precision(self._reward, self._dtype)
        return self._reward

    def pid(self) -> int:
        return os.getpid()

    def model_key(self) -> str:
        from reward.scoring.score import model_digest

        return model_digest(self._loaded())

    def score(self, part: "Part", batch_size: int) -> list["Record"]:
        from reward.scoring.score import score_parts

        [(_, records)] = score_parts(self._loaded(), [part], batch_size)
        return records
