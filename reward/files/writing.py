"""Write files whole or not at all. Readers never see half a file, and leftovers of killed processes are removed."""

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

# A temporary name contains the host and the process id. They show whether its writer is still running.
_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:40]
_SCRATCH = re.compile(rf"\.hyperalign-{_HOST}-(\d+)\..+")


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` write a temporary file beside `path`, then move it to `path`. Returns `path`.

    Args:
        path: its folder is created if it does not exist.
        write: called with the temporary path, which has the suffix of `path`.

    Raises:
        OSError: the disk is full, permission is missing, ...; the error names `path`.

    Example:
        >>> write_whole(Path("runs/a.txt"), lambda temporary: temporary.write_text("a"))  # doctest: +SKIP
        PosixPath('runs/a.txt')
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
    """Write a UTF-8 text file whole or not at all. Returns `path`; errors as `write_whole`."""
    return write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def scratch_beside(path: Path) -> Path:
    """A hidden name beside `path`, with its suffix, for a file or folder that is renamed to `path` when it is complete.

    The first call for a folder also removes temporary files that killed processes left in it.
    """
    _sweep(path.parent.absolute(), os.getpid())
    return path.with_name(f".hyperalign-{_HOST}-{os.getpid()}.{path.name}")


def remove_scratch(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder and in all folders below it."""
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        _remove_dead(path)


def is_scratch(name: str) -> bool:
    """Whether `scratch_beside` made a file name, on any machine."""
    return name.startswith(".hyperalign-")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Context in which disk errors name `path`. A failed write itself often does not name its file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except Exception as error:
        # safetensors reports disk errors as its own exception; callers expect OSError
        found = re.search(r"\(os error (\d+)\)", str(error))
        if not found:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def is_full_disk(error: BaseException) -> bool:
    """Whether an error means that there was no space: a full disk, a quota, or a limit on file size."""
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
