"""What is done to a process from inside, before its command starts: each wraps `run` and returns what to call."""

import ctypes
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[], None]

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
_CLONE_NEWNS, _CLONE_NEWUSER, _MS_REC, _MS_PRIVATE = 0x00020000, 0x10000000, 0x4000, 0x40000
_CAPABILITY_VERSION, _DAC_OVERRIDE, _DAC_READ_SEARCH = 0x20080522, 1, 2


def killed_before_change(run: Run, where: tuple[str, int]) -> Run:
    """SIGKILL before the k-th change (counted from 1) to what lies in a folder: between any two there is a state.

    Changes are files opened for writing, renamed or removed, folders made or removed; safetensors' own writes pass
    unseen, they lie between two of these.
    """
    folder, number = where
    left = [number]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if left[0] and _changes(event, arguments, folder):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return run


def changes_counted(run: Run, where: tuple[str, str]) -> Run:
    """Writes the number of changes that `killed_before_change` would count in a folder into a file."""
    folder, file = where
    count = [0]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        count[0] += _changes(event, arguments, folder)

    def counted() -> None:
        try:
            run()
        finally:
            Path(file).write_text(str(count[0]))

    sys.addaudithook(watch)
    return counted


def _changes(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return writes and str(path).startswith(folder)
    if event not in _CHANGES:
        return False
    # shutil.rmtree names what it removes relative to an open folder.
    relative = event != "os.rename" and arguments[-1] != -1
    return relative or str(arguments[0]).startswith(folder)


def small_files(run: Run, size: int) -> Run:
    """No file can grow beyond `size` bytes: EFBIG where a full disk gives ENOSPC, and nobody need mount anything."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return run


def small_disk(run: Run, where: tuple[str, int]) -> Run:
    """A file system of `size` bytes in place of a new folder; what it holds in the end is left in FOLDER.aside.

    Raises:
        OSError: this machine does not let us mount anything.
    """
    folder, size = where
    Path(folder).mkdir(parents=True)
    mount_small(folder, size)

    def on_small_disk() -> None:
        child = os.fork()
        if not child:
            os._exit(_exit_code(run))
        _, status = os.waitpid(child, 0)
        shutil.copytree(folder, f"{folder}.aside", symlinks=True)
        sys.exit(os.waitstatus_to_exitcode(status))

    return on_small_disk


def _exit_code(run: Run) -> int:
    """What Python would end with."""
    try:
        run()
    except SystemExit as stop:
        if isinstance(stop.code, int):
            return stop.code
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def mount_small(folder: str, size: int) -> None:
    """Mount a tmpfs of `size` bytes there, seen by this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    user = 0 if uid == 0 else _CLONE_NEWUSER
    _check(libc.unshare(_CLONE_NEWNS | user))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()))


def can_mount(folder: Path) -> bool:
    """Whether `small_disk` works here, tried in a child."""
    child = os.fork()
    if not child:
        try:
            mount_small(str(folder), 1 << 16)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def permissions_obeyed(run: Run, _: Any) -> Run:
    """Root reads and writes everything; without these two capabilities even root must have the permission."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    data = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.capget(header, data))
    data[0] &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    _check(libc.capset(header, data))
    return run


def _check(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
