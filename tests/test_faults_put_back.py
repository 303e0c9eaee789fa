"""The patches of `make mutants` fit the present sources and name tests that exist; whether they are caught it shows."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load_runner():
    path = ROOT / "tests" / "faults_put_back" / "run.py"
    spec = importlib.util.spec_from_file_location("faults_put_back_run", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


RUNNER = load_runner()
PATCHES = sorted(RUNNER.FOLDER.glob("*.patch"))


def test_there_are_enough_faults():
    assert len(PATCHES) >= 15


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_patch_fits_the_sources_and_names_a_test(path):
    fault = RUNNER.read_fault(path)
    for source, text in RUNNER.patched(fault, ROOT).items():
        assert not source.is_relative_to(ROOT / "tests"), "a fault belongs into the code, not into the tests"
        assert text != source.read_text(encoding="utf-8")
        ast.parse(text)
    file, *names = fault.test.split("::")
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for name in names:
        # A parametrised test may be named with its parameters.
        found = [node for node in body if getattr(node, "name", None) == name.partition("[")[0]]
        assert found, f"{file} has no {name}"
        body = found[0].body


def test_a_stale_patch_is_noticed(tmp_path):
    fault = RUNNER.Fault("old", "tests/test_x.py::test_y", (RUNNER.Change("code.py", "a = 1\n", "a = 2\n"),))
    for text in ("alpha = 1\n", "a = 1\na = 1\n", "a = 10\n"):
        (tmp_path / "code.py").write_text(text)
        with pytest.raises(ValueError, match="expected its lines once"):
            RUNNER.patched(fault, tmp_path)
    (tmp_path / "code.py").write_text("b = 0\na = 1\n")
    assert RUNNER.patched(fault, tmp_path) == {tmp_path / "code.py": "b = 0\na = 2\n"}


def test_a_patch_without_a_test_is_refused(tmp_path):
    (tmp_path / "x.patch").write_text("--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n")
    with pytest.raises(ValueError, match="first line"):
        RUNNER.read_fault(tmp_path / "x.patch")
    (tmp_path / "x.patch").write_text("# test: tests/x.py::test_x\n")
    with pytest.raises(ValueError, match="no hunk"):
        RUNNER.read_fault(tmp_path / "x.patch")
