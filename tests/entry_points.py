"""Every command of the project, and the parser of its command line, without running the command."""

import argparse
import importlib
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("reward", "rl", "attention_refine", "tinyworld", "benchmarks")
# Started by our own programs alone, with words that they agreed on.
WITHOUT_PARSER = (
    "benchmarks/ddpo_vs_trl/our_side.py", "benchmarks/ddpo_vs_trl/train_run.py", "benchmarks/demo_gain/before_after.py",
    "benchmarks/direct/chart.py", "benchmarks/direct_vs_trl/same_work.py", "benchmarks/forward/chart.py",
    "benchmarks/side_worker.py",
)  # fmt: skip


class _Parser(BaseException):
    """Stops a command where it would parse its command line."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def scripts() -> list[str]:
    """Every file that can be run and has a command line, as a path from the root."""
    found = [
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
        if file.name == "__main__.py" or '__name__ == "__main__"' in file.read_text(encoding="utf-8")
    ]
    return [file for file in found if file not in WITHOUT_PARSER]


def parser_of_script(file: str | Path) -> argparse.ArgumentParser:
    """The parser that a script makes.

    Raises:
        LookupError: it makes none.
    """
    return _parser_of(lambda: runpy.run_path(str(ROOT / file), run_name="__main__"), file)


def parser_of_function(name: str) -> argparse.ArgumentParser:
    """The parser that `module:function` makes, as console scripts are named."""
    module, _, function = name.partition(":")
    return _parser_of(getattr(importlib.import_module(module), function), name)


def sub_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser's sub-commands by name; none: no sub-commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _parser_of(run, name) -> argparse.ArgumentParser:
    with _stopped_at_parsing(), _command_line([str(name)]):
        try:
            run()
        except _Parser as found:
            return found.parser
    raise LookupError(f"{name} parses no command line; is it one of WITHOUT_PARSER of {Path(__file__).name}?")


@contextmanager
def _stopped_at_parsing() -> Iterator[None]:
    def stop(self, args=None, namespace=None):
        raise _Parser(self)

    own = argparse.ArgumentParser.parse_known_args
    argparse.ArgumentParser.parse_known_args = stop
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_known_args = own


@contextmanager
def _command_line(words: Sequence[str]) -> Iterator[None]:
    before, path = sys.argv, list(sys.path)
    sys.argv = list(words)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = before, path
