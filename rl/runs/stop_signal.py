"""SIGTERM as a request: the epoch under way is finished and saved, then the run stops."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from tqdm import tqdm


class StopSignal:
    """Inside, SIGTERM is noted in `received` instead of ending the process; afterwards the earlier handler is back.

    A second SIGTERM changes nothing: launchers pass on what a cluster has sent to every process already. Python lets
    only the main thread handle signals; elsewhere this does nothing.

    Example:
        >>> with StopSignal() as stop:
        ...     while not stop.received:
        ...         run_epoch()
    """

    def __init__(self) -> None:
        self.received = False
        self._earlier: Any = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, self._earlier)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True


def stop_message(epoch: int, num_epochs: int, run: Any) -> str:
    """What a run that was asked to stop says last."""
    return (
        f"Stopped by SIGTERM after epoch {epoch} of {num_epochs}. To go on: the same command with --resume_from {run}"
    )


def announce(text: str) -> None:
    """Print above a progress bar that may be on the screen."""
    tqdm.write(text)
