"""The guard of the fuzzer notices what it is there for."""

import os
import pickle
import subprocess
import sys

import pytest

from benchmarks.fuzz.guard import Violation, guarded
from tests.hostile.conftest import EVIL_PICKLE


def test_what_no_input_may_do_is_stopped(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "weights.pt").write_bytes(b"")
    forbidden = (
        lambda: subprocess.run([sys.executable, "-V"], check=True),
        lambda: os.system("true"),
        lambda: pickle.loads(EVIL_PICKLE),
        lambda: (tmp_path / "weights.pt").read_bytes(),
        lambda: (tmp_path / "in" / ".." / "out").write_text("x"),
        lambda: (tmp_path / "out").mkdir(),
        lambda: os.replace(tmp_path / "weights.pt", tmp_path / "in" / "x"),
    )
    for act in forbidden:
        with pytest.raises(Violation), guarded(tmp_path / "in"):
            act()
    assert not (tmp_path / "out").exists()


def test_a_link_to_elsewhere_is_elsewhere(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    with pytest.raises(Violation), guarded(tmp_path / "in"):
        (tmp_path / "in" / "link").write_text("x")
    assert not (tmp_path / "out").exists()


def test_a_variable_that_is_set_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("HOSTILE", raising=False)
    with pytest.raises(Violation), guarded(tmp_path):
        os.environ["HOSTILE"] = "1"
    monkeypatch.delenv("HOSTILE", raising=False)


def test_harmless_work_is_let_through(tmp_path):
    with guarded(tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "c").write_text("x")
        assert (tmp_path / "a" / "b" / "c").read_text() == "x"
