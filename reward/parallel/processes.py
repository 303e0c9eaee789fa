"""One batch over several processes: each computes its share, all see the whole loss, gradients are summed.

The ranking loss compares the pairs of a whole batch. Averaging the losses of shares, as data parallelism does, would
drop the comparisons across them; here a run with any number of processes takes the steps of a run with one.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

# One process may be far behind another, with larger pictures; one that dies is the launcher's matter.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """This process's rank among `count`; with a count of 1 nothing is ever communicated.

    What is communicated raises ConnectionError where another process has ended.

    Example:
        >>> Processes(rank=1, count=2).share(torch.arange(5))
        tensor([3, 4, 0])
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> "Processes":
        """Those of torch.distributed, where a launcher started several."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @classmethod
    def start(cls) -> tuple["Processes", torch.device]:
        """Join the processes that `accelerate launch` started, if it did; they, and the device of this one."""
        accelerator = torch.accelerator.is_available()
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(), torch.accelerator.current_accelerator() if accelerator else torch.device("cpu")
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env

        state = PartialState(
            # left to itself it takes processes without an accelerator for strangers, each of which does everything
            cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not accelerator,
            timeout=_PATIENCE,
        )
        launched = int(os.environ["WORLD_SIZE"])
        if state.num_processes != launched:
            raise RuntimeError(
                f"Expected {launched} processes, as the launcher started, but accelerate sees {state.num_processes}: "
                "each would do everything. Without GPUs set ACCELERATE_USE_CPU=true"
            )
        return cls(state.process_index, state.num_processes), state.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of (N,) rows, equally long everywhere: the last is filled up with first rows."""
        if self.count == 1:
            return rows
        size = -(-len(rows) // self.count)
        filled = rows.repeat(-(-size * self.count // len(rows)))[: size * self.count]
        return filled[self.rank * size : (self.rank + 1) * size]

    def join(self, own: Tensor, total: int) -> Tensor:
        """The (total, ...) of a whole batch from every process's share; gradients flow into this process's own part."""
        if self.count == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.count)]
        with self._together():
            distributed.all_gather(parts, own.detach().contiguous())
        parts[self.rank] = own
        return torch.cat(parts)[:total]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up the gradients that every process has for its own part."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        with self._together():
            distributed.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite every process's tensors with the main process's."""
        if self.count > 1:
            with self._together():
                for tensor in tensors:
                    distributed.broadcast(tensor.detach(), src=0)

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.count > 1:
            with self._together():
                distributed.barrier()

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise ConnectionError(
                f"Expected {self.count} processes to the end, but another process of this run has ended or does not "
                f"answer; if it was not killed, its own last message says why ({str(error).splitlines()[0]})"
            ) from error
