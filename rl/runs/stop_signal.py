"""SIGTERM as a request to stop: the current epoch is finished and saved, then the run ends."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from tqdm import tqdm


class StopSignal:
    """Within the context, SIGTERM sets `received` and does not end the process. The earlier handler is restored after.

    Further SIGTERMs are ignored, because clusters and launchers often both send one to every process. Python handles
    signals in the main thread only; in other threads this class does nothing.

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
    """The last message of a run that was stopped by SIGTERM."""
    return (
        f"Stopped by SIGTERM after epoch {epoch} of {num_epochs}. To resume, use the same command with --resume_from "
        f"{run}"
    )


def announce(text: str) -> None:
    """Print a message without breaking the progress bar."""
    tqdm.write(text)
