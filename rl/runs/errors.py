"""What a run that ends in an error says beside the error: what is kept, and how to go on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rl.runs.checkpoints import list_checkpoints

# How gloo and NCCL speak of a process that is no longer there.
_LOST = ("closed by peer", "reset by peer", "broken pipe", "timed out", "gloo", "nccl", "connection was likely closed")


@contextlib.contextmanager
def explained(run: Path, processes: int) -> Iterator[None]:
    """Errors inside, Ctrl-C too, carry a note on the newest checkpoint and the way to go on.

    Raises:
        ConnectionError: instead of the message of the communication library, where another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if processes > 1 and any(word in str(error).lower() for word in _LOST):
            lost = ConnectionError(
                f"Expected {processes} processes to the end, but another process of this run has ended or does not "
                "answer; if it was not killed, its own last message says why."
            )
            lost.add_note(how_to_go_on(run))
            raise lost from error
        error.add_note(how_to_go_on(run))
        raise
    except BaseException as error:
        error.add_note(how_to_go_on(run))
        raise


def how_to_go_on(run: Path) -> str:
    """What is kept of a run, in a sentence."""
    found = list_checkpoints(run)
    if not found:
        return f"{run} has no checkpoint yet: start again with the same command."
    return f"Kept: {found[-1]}. To go on from it: the same command with --resume_from {run}"
