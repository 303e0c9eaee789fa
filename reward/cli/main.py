"""The `hyperalign` command: score and rank pictures, train and evaluate a reward, explain one score, serve."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward.cli.arguments import build_parser
from reward.files.writing import is_full_disk
from reward.named_models import DEFAULT_MODEL, TINY_WORLD
from reward.scoring.inputs import NoPromptError, find_pictures, find_rows

if TYPE_CHECKING:
    from reward.hyperalign_reward import HyperAlignReward
    from reward.parallel.processes import Processes

__all__ = ["find_pictures", "main"]

SOME_UNREADABLE = 1
WRONG_INPUT = 2
INTERRUPTED = 130
TERMINATED = 143

_GO_ON = {
    "score": "What is scored is kept if there is an --output: run the same command again, it goes on from there.",
    "train": "Finished epochs are kept: run the same command with --resume, it goes on from there.",
}


class _Terminated(BaseException):
    """SIGTERM, as an exception: what is being written is cleared away."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0; 1 where pictures could not be read and all others have a score; 2 after a message about wrong input, a full disk
    or a lost process; 130 after Ctrl-C; 143 after SIGTERM.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    run = {
        "score": _score, "rank": _rank, "train": _train, "evaluate": _evaluate, "explain": _explain, "models": _models,
        "serve": _serve,
    }  # fmt: skip
    name, go_on = f"hyperalign {arguments.command}", _GO_ON.get(arguments.command, "")
    try:
        with _sigterm_raised():
            return run[arguments.command](arguments)
    except NoPromptError as error:
        parser.error(f"{arguments.command}: {error}")
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        if go_on and (is_full_disk(error) or isinstance(error, ConnectionError)):
            print(go_on, file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted. {go_on}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except _Terminated:
        print(f"\n{name}: stopped by SIGTERM. {go_on}".rstrip(), file=sys.stderr)
        return TERMINATED


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Inside, SIGTERM is an exception; not among several processes: one that waits for another would not see it."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if not alone or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise _Terminated

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _score(arguments: argparse.Namespace) -> int:
    from reward.scoring.parts import check_output

    # before the work: a wrong suffix or a broken table should not cost an hour of scoring
    if arguments.output is not None:
        check_output(arguments.output)
    rows = find_rows(arguments.paths, arguments.table, arguments.prompt, _columns(arguments), _tell)
    total = rows.count()
    if total == 0:
        raise ValueError("Expected at least one picture to score, the table has no rows.")
    processes, device = _start(arguments.device)
    if arguments.output is None:
        if processes.count > 1:
            raise ValueError("Expected --output FILE, which several processes can share; one process alone can print.")
        if arguments.engine == "ray":
            raise ValueError("Expected --output FILE with --engine ray; without it scores are printed by one process.")
        return _print_scores(arguments, rows, device)

    from reward.scoring.score import score_to_file

    options = {"batch_size": arguments.batch_size, "total": total, "progress": not arguments.quiet}
    if arguments.engine == "ray":
        from reward.scoring.ray_engine import RayEngine

        model = arguments.model or DEFAULT_MODEL
        model = str(_tiny_world("hyperalign")) if model == TINY_WORLD else model
        with RayEngine(model, arguments.dtype, arguments.workers) as engine:
            count, problems = score_to_file(None, rows, arguments.output, engine=engine, **options)
    else:
        reward = _load(arguments.model, device, arguments.dtype)
        count, problems = score_to_file(reward, rows, arguments.output, processes=processes, **options)
    if not processes.is_main:
        return 0
    print(f"{count.scored} scores in {arguments.output}")
    if not count.unreadable:
        return 0
    _list(problems, f"{count.unreadable} of {count.scored + count.unreadable} pictures have no score")
    print("Fix them and run the same command again: only the parts that hold them are scored again.", file=sys.stderr)
    return SOME_UNREADABLE


def _print_scores(arguments: argparse.Namespace, rows: Any, device: Any) -> int:
    from reward.scoring.parts import csv_lines
    from reward.scoring.score import score_parts, split_rows

    reward = _load(arguments.model, device, arguments.dtype)
    problems: list[str] = []
    csv_lines([], sys.stdout)
    for _, records in score_parts(reward, split_rows(rows, arguments.batch_size, ""), arguments.batch_size):
        csv_lines((record for record in records if "score" in record), sys.stdout, header=False)
        sys.stdout.flush()
        problems += [record["error"] for record in records if "score" not in record]
    if not problems:
        return 0
    _list(problems, f"{len(problems)} pictures have no score")
    return SOME_UNREADABLE


def _rank(arguments: argparse.Namespace) -> int:
    rows = find_rows(arguments.paths, None, arguments.prompt, _columns(arguments), _tell)

    from reward.scoring.score import score_parts, split_rows

    reward = _load(arguments.model, _start(arguments.device)[1], arguments.dtype)
    parts = split_rows(rows, arguments.batch_size, "")
    records = [record for _, part in score_parts(reward, parts, arguments.batch_size) for record in part]
    ranked = sorted((record for record in records if "score" in record), key=lambda record: -record["score"])
    for place, record in enumerate(ranked, start=1):
        print(f"{place:4d}  {record['score']:8.4f}  {record['path']}")
    problems = [record["error"] for record in records if "score" not in record]
    if not problems:
        return 0
    _list(problems, f"{len(problems)} of {len(records)} pictures have no score")
    return SOME_UNREADABLE


def _train(arguments: argparse.Namespace) -> int:
    from reward.cli.train import run, training_config

    named = any(change.startswith("model.backbone=") for change in arguments.set)
    default = DEFAULT_MODEL if arguments.config is None and not named else None
    return run(arguments, training_config(arguments.config, arguments.set, _towers(arguments.backbone or default)))


def _evaluate(arguments: argparse.Namespace) -> int:
    from reward.cli import evaluate

    evaluate.check(arguments)
    if arguments.config:
        arguments.backbone = _towers(arguments.backbone)
        return evaluate.run_protocol(arguments)
    model = arguments.model or DEFAULT_MODEL
    reward = _load(model, _start(arguments.device)[1])
    folder = str(_tiny_world("hyperalign")) if model == TINY_WORLD else model
    return evaluate.run_saved(arguments, reward, folder)


def _explain(arguments: argparse.Namespace) -> int:
    from reward.explanation.explain import draw, explain

    reward = _load(arguments.model, _start(arguments.device)[1])
    explanation = explain(reward, arguments.image, arguments.prompt)
    print(explanation)
    if arguments.output is not None:
        draw(explanation, arguments.output)
        print(f"\nPicture in {arguments.output}")
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from reward.named_models import describe_models, fetch_model

    for name in arguments.fetch:
        fetch_model(name)
        print(f"{name} is in the cache")
    if not arguments.fetch:
        print(describe_models(arguments.all))
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from reward.cli import serve

    listening = serve.open_port(arguments)
    reward = _load(arguments.model, _start(arguments.device)[1])
    return serve.run(arguments, listening, reward, arguments.model or DEFAULT_MODEL)


def _start(device: str | None) -> "tuple[Processes, Any]":
    """The processes that `accelerate launch` started, and this one's device: a GPU where there is one."""
    from reward.parallel.processes import Processes

    processes, own = Processes.start()
    return processes, device or own


def _load(model: str | None, device: Any, dtype: str = "float32") -> "HyperAlignReward":
    """The reward that --model names, CLIP's cosine where it names none; its towers in the precision of --dtype."""
    from reward.named_models import load_model

    reward = load_model(model or DEFAULT_MODEL, device, tiny_world=lambda: _tiny_world("hyperalign"))
    if dtype != "float32":
        from reward.scoring.precision import set_precision

        taken = set_precision(reward, dtype)
        if dtype == "auto":
            _tell(f"--dtype auto: {taken}")
    return reward


def _towers(backbone: str | None) -> str | None:
    return f"local-dir:{_tiny_world('open-clip')}" if backbone == TINY_WORLD else backbone


def _tiny_world(name: str) -> Path:
    # An entry script may name the built-in world; the import is here so that the library never needs it.
    from tinyworld import weights_path

    return weights_path(name)


def _columns(arguments: argparse.Namespace) -> dict[str, str]:
    """The table's columns that the command line names."""
    given = {"image": arguments.image_column, "prompt": getattr(arguments, "prompt_column", None)}
    return {role: name for role, name in given.items() if name}


def _tell(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)


def _list(problems: Any, title: str) -> None:
    print(f"{title}:", file=sys.stderr)
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
