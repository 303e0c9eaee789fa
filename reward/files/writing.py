"""Files that are written whole or not at all: a reader never meets half of one, and killed writers leave no litter."""

import errno
import functools
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Whose temporary file it is: a process of this machine that is gone can be told from one that is still writing.
_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:40]
_SCRATCH = re.compile(rf"\.hyperalign-{_HOST}-(\d+)\..+")


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a temporary file beside `path` (with its suffix), then move it there; returns `path`.

    Raises:
        OSError: disk full, no permission, ...; it names `path`.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = scratch_beside(path)
        try:
            write(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file whole or not at all; returns `path`."""
    return write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def scratch_beside(path: Path) -> Path:
    """A hidden name beside `path`, with its suffix, for a file or folder that will be renamed when it is whole.

    What processes that were killed left in that folder is removed, once a process and folder.
    """
    _sweep(path.parent.absolute(), os.getpid())
    return path.with_name(f".hyperalign-{_HOST}-{os.getpid()}.{path.name}")


def remove_scratch(folder: Path) -> None:
    """Remove what killed processes left in a folder and all below it."""
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        _remove_dead(path)


def is_scratch(name: str) -> bool:
    """Whether a file's name is one that `scratch_beside` gives, on any machine."""
    return name.startswith(".hyperalign-")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the disk inside name `path`: a write that fails says what went wrong, not where."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except Exception as error:
        # safetensors' own kind of error, which no caller expects of a disk
        found = re.search(r"\(os error (\d+)\)", str(error))
        if not found:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def is_full_disk(error: BaseException) -> bool:
    """Whether there was no room: a full disk, a quota, or a limit on the size of a file."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@functools.cache
def _sweep(folder: Path, _: int) -> None:
    _remove_dead(folder)


def _remove_dead(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        found = _SCRATCH.fullmatch(path.name)
        if not found or _alive(int(found[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
