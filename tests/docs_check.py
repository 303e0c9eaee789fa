"""Run what the pages tell a reader to run: `make docs-check`, or `python tests/docs_check.py PAGE...` for some pages.

Every command of README.md, CONTRIBUTING.md, docs/ and benchmarks/README.md is checked as tests/test_docs.py does. Then
those that need no GPU, hub weights, foreign package or hour are run, as a reader would, in a scratch copy of the
repository: training runs shortened to seconds, benchmarks at the sizes of tests/benchmarks/tiny_runs.py. The others are
listed with the reason.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A script's own folder comes first on the path, not the one that holds the packages.
sys.path.insert(0, str(ROOT))
os.environ["HF_HUB_OFFLINE"] = "1"

from benchmarks.trainer_flags import changed  # noqa: E402
from tests.benchmarks.tiny_runs import NOT_RUN, RUNS, make_scratch  # noqa: E402
from tests.docs_commands import FOREIGN, PAGES, TRAINERS, Command, blocks, page_problems, problems, read_commands  # noqa: E402

DEMO = ("accelerate", "launch", "--config_file", "configs/accelerate/one_process.yaml", "rl/direct_train.py",
        "--output_dir", "runs/demo")  # fmt: skip
# A run of seconds; evaluation has to leave the pictures that other commands read.
SHORT = ("--num_epochs", "1", "--sample_batch_size", "8", "--sample_num_batches_per_epoch", "1",
         "--eval_num_prompts", "4")  # fmt: skip
# Words of a command -> why it is not run.
REASONS = {
    r"make (setup|test|test-lowest|mutants|lint|bench|clean|docs-check)$": "a target of the Makefile",
    r"configs/(ddpo|draft|nft|matching|dpo)_": "needs hub weights and a GPU",
    r"models/|llava-hf/|pretrained=": "needs hub weights",
    r"runs/ddpo_sd|--push_to_hub": "needs an SD run",
    r"\bRECIPE\b|\bMODEL\b|trl\.yaml|my_module|mypackage": "stands for a reader's own files",
    r"tests/parity": "needs TRL 0.23.1",
    r"hyperalign serve": "answers until it is stopped; tests/reward/serving runs it",
    r"pip install": "installs",
    r"examples/captioner_grpo": "takes minutes; tests/examples runs it for two steps",
}
LIMIT_SECONDS = 900


def main(pages: Sequence[str]) -> int:
    """Check, then run; returns 1 if anything is wrong."""
    unknown = sorted(set(pages) - set(PAGES))
    if unknown:
        sys.exit(f"Expected pages among {', '.join(PAGES)}, got {', '.join(unknown)}.")
    pages = pages or PAGES
    commands = {page: read_commands(page) for page in pages}
    wrong = [problem for page in pages for problem in page_problems(page)]
    wrong += [f"{one}: {problem}" for found in commands.values() for one in found for problem in problems(one)]
    print(f"{sum(map(len, commands.values()))} commands on {len(pages)} pages: {len(wrong)} problems", flush=True)
    with tempfile.TemporaryDirectory(prefix="docs-check-") as folder:
        scratch = make_scratch(Path(folder) / "repository")
        environment = environment_of(scratch)
        wrong += run("make demo", shortened(DEMO), scratch, environment)
        kept = {*scratch.iterdir(), *(scratch / "runs").iterdir()}
        for page in pages:
            wrong += run_page(page, commands[page], scratch, environment)
            # Every page starts from what a reader of it alone has.
            for path in {*scratch.iterdir(), *(scratch / "runs").iterdir()} - kept:
                subprocess.run(["rm", "-r", str(path)], check=True)
        if "benchmarks/README.md" in pages:
            for one in RUNS:
                for file in one.without:
                    (scratch / file).unlink(missing_ok=True)
                words = ("python", "-m", one.file.removesuffix(".py").replace("/", "."), *one.words)
                wrong += run(str(one), words, scratch, environment | dict(one.environment))
            for file, reason in NOT_RUN.items():
                print(f"not run   {file}: {reason}")
    for problem in wrong:
        print(f"WRONG     {problem}")
    return int(bool(wrong))


def run_page(page: str, commands: Sequence[Command], scratch: Path, environment: dict[str, str]) -> list[str]:
    """Run a page's commands in order, those in running text apart."""
    wrong = []
    text = (ROOT / page).read_text(encoding="utf-8")
    code = [body for _, language, body in blocks(text) if language == "python"]
    for command in commands:
        if command.is_shape or command.words[0] in FOREIGN:
            continue
        line = shlex.join(command.words)
        reason = next((reason for words, reason in REASONS.items() if re.search(words, line)), "")
        if command.words[:2] == ("make", "demo"):
            reason = "was run above, shortened"
        if "benchmarks" in line:
            reason = "at its tiny size below"
        if reason:
            print(f"not run   {command}: {reason}")
            continue
        for module, function in re.findall(r"\b(my_\w+):(\w+)", line):
            body = next(body for body in code if f"def {function}(" in body)
            (scratch / f"{module}.py").write_text(body)
        wrong += run(str(command), shortened(command.words), scratch, environment | dict(own(command, scratch)))
    if page == "README.md":
        wrong += run("README.md: its Python", ("python", "-c", code[0]), scratch, environment)
    return wrong


def own(command: Command, scratch: Path) -> Iterator[tuple[str, str]]:
    """A command's own variables, its PYTHONPATH beside ours."""
    for name, value in command.environment.items():
        yield name, os.pathsep.join([value, str(scratch)]) if name == "PYTHONPATH" else value


def shortened(words: Sequence[str]) -> tuple[str, ...]:
    """The command with a trainer's sizes changed to those of a run of seconds; others as they are."""
    place = next((i for i, word in enumerate(words) if word in TRAINERS), None)
    if place is None:
        return tuple(words)
    tiny = list(SHORT)
    if words[place] != "rl/direct_train.py":
        tiny += ["--train_batch_size", "1" if words[place] == "rl/dpo_train.py" else "8"]
    if "--eval_freq" in words:
        tiny += ["--eval_freq", "1", "--eval_freq_num_prompts", "2", "--eval_freq_group_size", "2"]
    longer = ["--num_epochs", "2"] if "--resume_from" in words else []
    head, flags = words[: place + 1], words[place + 1 :]
    if "--output_dir" not in flags:
        flags = (*flags, "--output_dir", f"runs/{abs(hash(tuple(words)))}")
    return (*head, *changed(flags, tiny, longer))


def environment_of(scratch: Path) -> dict[str, str]:
    """What a reader's shell has, with this environment's programs first and no hub."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(scratch),
        "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(scratch / "runs" / "cache"), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def run(name: str, words: Sequence[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """Run one command; what is wrong with it, if anything."""
    started = time.monotonic()
    words = [words[0].removeprefix(".venv/bin/"), *words[1:]]
    if words[:2] == ["python", "-"]:
        words[1] = "-c"  # a script on standard input
    try:
        child = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return [f"{name}: {error}"]
    try:
        _, errors = child.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"TOO LONG  {name}", flush=True)
        return [f"{name}: not done after {LIMIT_SECONDS} seconds"]
    finally:
        # The whole group: a worker that outlives its command keeps the pipe open, and communicate waits for ever.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    verdict = "ran" if child.returncode == 0 else f"CODE {child.returncode}"
    print(f"{verdict:9} {name} ({time.monotonic() - started:.0f} s)", flush=True)
    return [] if child.returncode == 0 else [f"{name}: exit code {child.returncode}\n{errors[-1500:]}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
