"""Share a batch between processes.

Each process encodes its part, all compute the loss of the whole batch, and the gradients are summed.
The ranking loss compares pairs of the whole batch. Usual data parallelism averages the losses of the parts, and would
lose the comparisons between parts. Here a run with any number of processes takes the same steps as a run with one.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

# Long, because one process may be far behind another, for example with larger images. The launcher handles one that
# dies.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """The rank of this process and the number of processes. With a count of 1, nothing is communicated.

    Methods that communicate raise ConnectionError if another process has ended.

    Example:
        >>> Processes(rank=1, count=2).share(torch.arange(5))
        tensor([3, 4, 0])
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> "Processes":
        """The processes of torch.distributed if it is initialised, else this process alone."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @classmethod
    def start(cls) -> tuple["Processes", torch.device]:
        """Join the processes that `accelerate launch` started, if any.

        Returns:
            the processes, and the device of this process.

        Raises:
            RuntimeError: accelerate sees another number of processes than the launcher started.
        """
        accelerator = torch.accelerator.is_available()
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(), torch.accelerator.current_accelerator() if accelerator else torch.device("cpu")
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env

        state = PartialState(
            # without this, accelerate treats processes without an accelerator as separate runs, each doing all work
            cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not accelerator,
            timeout=_PATIENCE,
        )
        launched = int(os.environ["WORLD_SIZE"])
        if state.num_processes != launched:
            raise RuntimeError(
                f"Expected the {launched} processes that the launcher started but accelerate sees "
                f"{state.num_processes}, and each would do all the work. Without GPUs, set ACCELERATE_USE_CPU=true"
            )
        return cls(state.process_index, state.num_processes), state.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of (N,) rows. All parts have one length; the last is filled up with the first rows."""
        if self.count == 1:
            return rows
        size = -(-len(rows) // self.count)
        filled = rows.repeat(-(-size * self.count // len(rows)))[: size * self.count]
        return filled[self.rank * size : (self.rank + 1) * size]

    def join(self, own: Tensor, total: int) -> Tensor:
        """Join the parts of all processes to the (total, ...) values of the batch.

        Gradients flow only into `own`, this process's part.
        """
        if self.count == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.count)]
        with self._together():
            distributed.all_gather(parts, own.detach().contiguous())
        parts[self.rank] = own
        return torch.cat(parts)[:total]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its sum over all processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        with self._together():
            distributed.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors of every process with those of the main process."""
        if self.count > 1:
            with self._together():
                for tensor in tensors:
                    distributed.broadcast(tensor.detach(), src=0)

    def wait(self) -> None:
        """Wait until every process has reached this call."""
        if self.count > 1:
            with self._together():
                distributed.barrier()

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise ConnectionError(
                f"Expected {self.count} running processes but another process of this run has ended or does not "
                f"answer; unless it was killed, its own last message says why ({str(error).splitlines()[0]})"
            ) from error
