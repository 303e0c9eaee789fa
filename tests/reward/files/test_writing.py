import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import reward.files.writing
from reward.files.writing import is_full_disk, is_scratch, naming, scratch_beside, write_text, write_whole


@pytest.fixture
def gone():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path, gone, monkeypatch):
    own = scratch_beside(tmp_path / "a.json").name
    dead = own.replace(f"-{os.getpid()}.", f"-{gone}.")
    elsewhere = dead.replace(".hyperalign-", ".hyperalign-elsewhere-")
    (tmp_path / dead).write_text("half")
    (tmp_path / f"{dead}.old").mkdir()
    (tmp_path / f"{dead}.old" / "file").write_text("half")
    kept = [own, elsewhere, f"{gone}.a.json", ".a.json.7.tmp"]
    for name in kept:
        (tmp_path / name).write_text("of others")
    monkeypatch.setattr(reward.files.writing.os, "getpid", lambda: 1)  # the process that goes on
    write_text(tmp_path / "a.json", "{}")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "a.json"])
    assert is_scratch(dead) and is_scratch(elsewhere) and not is_scratch(".a.json.7.tmp")


def test_a_disk_error_names_the_file(tmp_path):
    def fail(temporary):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*summary.json'") as caught:
        write_whole(tmp_path / "summary.json", fail)
    assert is_full_disk(caught.value) and not os.listdir(tmp_path)
    with pytest.raises(PermissionError, match="elsewhere"), naming(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "elsewhere")


def test_the_error_of_safetensors_is_one_of_the_disk(tmp_path):
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(IsADirectoryError, match="weights"), naming(tmp_path / "weights"):
        save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(KeyError), naming(tmp_path):
        raise KeyError("no error of a disk")


def test_text_is_written_whole(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "ü")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "ü"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, half)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]
