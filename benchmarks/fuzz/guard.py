"""Detect what hostile input must not cause: a process, unpickling, writing elsewhere, a changed environment variable.

Python calls audit hooks before each of these (PEP 578). Actions of native code are not detected.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FORBIDDEN = (
    "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile",
    "os.putenv", "os.unsetenv", "socket.connect", "ctypes.dlopen", "webbrowser.open",
)  # fmt: skip
_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_roots: list[str] = []  # of the innermost guard; empty: nothing is watched
_hooked = False


class Violation(BaseException):
    """The input caused a forbidden action. It is a BaseException, so `except Exception` does not hide it."""


@contextlib.contextmanager
def guarded(root: Path) -> Iterator[None]:
    """Within the context, `Violation` is raised before a forbidden action and before a file outside `root` is changed.

    Raises:
        Violation: also at the end, if an environment variable has changed.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    before = dict(os.environ)
    _roots.append(os.path.realpath(root))
    try:
        yield
    finally:
        _roots.pop()
    changed = sorted(name for name, _ in dict(os.environ).items() ^ before.items())
    if changed:
        raise Violation(f"environment variables changed: {changed}")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _roots:
        return
    if event in _FORBIDDEN:
        raise Violation(f"{event} {arguments!r:.200}")
    if event in _CHANGES:
        paths = 2 if event in ("os.rename", "os.link", "os.symlink") else 1
        for place, path in enumerate(arguments[:paths]):
            _inside(event, path, _folder(event, arguments, place))
    elif event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes, os.PathLike)):
            writing = set(mode or "") & set("wax+") or (flags or 0) & _WRITING
            if writing:
                _inside(event, path)
            elif os.fsdecode(path).endswith(_PICKLES):
                raise Violation(f"a pickle was opened: {os.fsdecode(path)}")


def _folder(event: str, arguments: tuple[Any, ...], place: int) -> str:
    """The folder that a relative path starts from: of the given directory descriptor (as in rmtree), or the current."""
    at = {"os.rename": 2 + place, "os.link": 2 + place, "os.symlink": 2, "os.mkdir": 2, "os.chmod": 2}.get(event, 1)
    descriptor = arguments[at] if len(arguments) > at else -1
    return os.readlink(f"/proc/self/fd/{descriptor}") if isinstance(descriptor, int) and descriptor >= 0 else "."


def _inside(event: str, path: Any, folder: str = ".") -> None:
    if isinstance(path, int):  # a file that is already open
        return
    name = os.path.join(folder, os.fsdecode(path))
    if name == os.devnull or "__pycache__" in name:  # the interpreter's own compiled files
        return
    # the folder's real place, not the link's target: that is what changes
    place = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(name))), os.path.basename(name))
    if os.path.realpath(name) != place and event == "open":
        place = os.path.realpath(name)
    if os.path.commonpath([place, _roots[-1]]) != _roots[-1]:
        raise Violation(f"{event} outside of {_roots[-1]}: {name}")
