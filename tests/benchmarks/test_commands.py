"""Every benchmark's command runs, at a size of seconds, in this process and in a scratch copy of the repository."""

import importlib
import runpy
import subprocess
import sys
import time

import pytest
import torch

from tests.benchmarks.tiny_runs import NOT_RUN, ROOT, RUNS, make_scratch
from tests.entry_points import scripts


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return make_scratch(tmp_path_factory.mktemp("scratch") / "repository")


class SideHere:
    """`benchmarks.sides.Side` without a process of its own, whose start would take longer than what it does."""

    def __init__(self, labels, target, settings, first_on_path=""):
        module, _, name = target.partition(":")
        # a script that is running is found as __main__ alone
        self.labels, self.worker = labels, getattr(importlib.import_module(module), name)(settings)

    def epoch(self, condition=None):
        cpu = time.process_time()
        record = self.worker.run_epoch(**(condition or {}))
        return record | {"cpu_seconds": time.process_time() - cpu, "peak_mb": 1.0, "rise_mb": 1.0, "ready_mb": 1.0}

    def close(self):
        del self.worker


_Process, _run = subprocess.Popen, subprocess.run


class ProcessHere:
    """A trainer's process, run to its end at once."""

    def __init__(self, command, cwd, env, check=True, **options):
        assert command[1] == "-m", command
        module, words = command[2], command[3:]
        importlib.import_module(module).main(words)
        self.returncode = 0

    def poll(self):
        return 0

    wait = poll


def here_or(process):
    """`ProcessHere` for our own modules; `process` for servers, and for what libraries ask the system."""

    def start(command, *arguments, **options):
        ours = list(command[1:2]) == ["-m"] and "serve" not in command
        return (ProcessHere if ours else process)(command, *arguments, **options)

    return start


@pytest.fixture
def here(scratch, monkeypatch):
    """Benchmarks of the scratch copy, imported afresh, whose sides and trainers run in this process."""
    from accelerate.state import AcceleratorState, PartialState

    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "benchmarks"}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(scratch)
    monkeypatch.chdir(scratch)
    importlib.import_module("benchmarks.sides").Side = SideHere
    monkeypatch.setattr(subprocess, "run", here_or(_run))
    monkeypatch.setattr(subprocess, "Popen", here_or(_Process))
    threads = torch.get_num_threads()
    yield scratch
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]
    torch.set_num_threads(threads)
    AcceleratorState._reset_state()
    PartialState._reset_state()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", RUNS, ids=str)
def test_it_runs(command, here, monkeypatch):
    if command.needs and not (here / command.needs).exists():
        run(next(earlier for earlier in RUNS if command.needs in earlier.writes), here, monkeypatch)
    before = {file: written(here / file) for file in command.writes}
    run(command, here, monkeypatch)
    for file, time_before in before.items():
        assert written(here / file) > time_before, f"{file} was not written"


def run(command, folder, monkeypatch):
    for file in command.without:
        (folder / file).unlink(missing_ok=True)
    for name, value in command.environment:
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [command.file, *command.words])
    try:
        runpy.run_path(str(folder / command.file), run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, stop.code


def written(file):
    return file.stat().st_mtime_ns if file.exists() else 0


def test_every_benchmark_is_run_or_says_why_not():
    own = {file for file in scripts() if file.startswith("benchmarks/")}
    own |= {"benchmarks/direct/chart.py", "benchmarks/forward/chart.py"}
    run = {command.file for command in RUNS}
    assert run | set(NOT_RUN) == own | {"benchmarks/direct_vs_trl/same_work.py"}
    assert not run & set(NOT_RUN)


@pytest.mark.parametrize("file", [file for file, why in NOT_RUN.items() if "TRL" in why and "same_work" not in file])
def test_without_trl_the_comparison_says_what_it_needs(file, monkeypatch):
    monkeypatch.delenv("TRL_0_23_1", raising=False)
    monkeypatch.setattr(sys, "argv", [file])
    with pytest.raises(SystemExit, match="Expected a folder with TRL 0.23.1 in --trl or TRL_0_23_1, got none"):
        runpy.run_path(str(ROOT / file), run_name="__main__")
