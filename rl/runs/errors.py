"""A note on every error that ends a run: which checkpoint was saved, and how to resume."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rl.runs.checkpoints import list_checkpoints

# Parts of gloo's and NCCL's messages when another process has ended.
_LOST = ("closed by peer", "reset by peer", "broken pipe", "timed out", "gloo", "nccl", "connection was likely closed")


@contextlib.contextmanager
def explained(run: Path, processes: int) -> Iterator[None]:
    """Within the context, errors and Ctrl-C get a note that names the newest checkpoint and says how to resume.

    Raises:
        ConnectionError: another process has ended; replaces the communication library's error.
    """
    try:
        yield
    except RuntimeError as error:
        if processes > 1 and any(word in str(error).lower() for word in _LOST):
            lost = ConnectionError(
                f"Expected {processes} processes to the end, but another process of this run has ended or does not "
                "answer. If it was not killed, its last message says why."
            )
            lost.add_note(how_to_go_on(run))
            raise lost from error
        error.add_note(how_to_go_on(run))
        raise
    except BaseException as error:
        error.add_note(how_to_go_on(run))
        raise


def how_to_go_on(run: Path) -> str:
    """One sentence: the newest checkpoint of a run and how to resume from it."""
    found = list_checkpoints(run)
    if not found:
        return f"{run} has no checkpoint yet. Start again with the same command."
    return f"The newest checkpoint is {found[-1]}. To resume from it, use the same command with --resume_from {run}"
