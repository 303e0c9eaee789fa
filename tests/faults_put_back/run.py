"""Do the tests bite? Puts each fault of this folder back into a scratch copy; the test it names must then fail.

    python tests/faults_put_back/run.py             # all of them, as `make mutants` does
    python tests/faults_put_back/run.py alpha ema   # those whose name holds one of the words

A patch is a unified diff against the root of the repository, below a first line `# test: FILE::TEST` and lines that
say what the fault does. It counts as stale unless what it replaces occurs exactly once in the file.
"""

import os
import queue
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
# A script's own folder comes first on the path, not the repository's.
sys.path.insert(0, str(ROOT))

from tests.repository_copy import copy_repository  # noqa: E402

# One test takes seconds; one that hangs on a fault has not caught it.
TIMEOUT = 600
# Every test has one thread.
WORKERS = min(os.cpu_count() or 1, 4)


@dataclass(frozen=True)
class Change:
    """One hunk: `before`, which the file holds exactly once, becomes `after`."""

    file: str
    before: str
    after: str


@dataclass(frozen=True)
class Fault:
    """One patch: its name, the test that must fail, what it replaces."""

    name: str
    test: str
    changes: tuple[Change, ...]


def read_fault(path: Path) -> Fault:
    """Parse a patch.

    Raises:
        ValueError: no `# test:` line at the top, or no hunk.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    header = re.fullmatch(r"# test: (\S+\.py::\S+)", lines[0] if lines else "")
    if not header:
        raise ValueError(f"{path.name}: expected a first line '# test: FILE.py::TEST', got {lines[:1]}.")
    changes, file, hunk = [], "", None
    for line in lines[1:]:
        if line.startswith("+++ b/"):
            file = line.removeprefix("+++ b/")
        elif line.startswith("@@"):
            hunk = ([], [])
            changes.append((file, hunk))
        elif line.startswith("--- a/"):
            hunk = None
        elif hunk is not None:
            for side, sign in zip(hunk, "-+", strict=True):
                if line[:1] in ("", " ", sign):
                    side.append(line[1:] + "\n")
    if not changes:
        raise ValueError(f"{path.name}: expected a unified diff, found no hunk.")
    return Fault(path.stem, header[1], tuple(Change(f, "".join(old), "".join(new)) for f, (old, new) in changes))


def faults(words: Sequence[str] = ()) -> list[Fault]:
    """The patches of this folder whose name holds one of `words`; all without words."""
    found = [read_fault(path) for path in sorted(FOLDER.glob("*.patch"))]
    return [fault for fault in found if not words or any(word in fault.name for word in words)]


def patched(fault: Fault, root: Path) -> dict[Path, str]:
    """The files under `root` that a fault changes, with their new text.

    Raises:
        ValueError: the patch is stale.
    """
    texts: dict[Path, str] = {}
    for change in fault.changes:
        path = root / change.file
        text = texts.get(path) or path.read_text(encoding="utf-8")
        # Whole lines: "x = 1" must not match inside "max = 1".
        places = [match.start() for match in re.finditer(f"(?m)^(?={re.escape(change.before)})", text)]
        if len(places) != 1:
            raise ValueError(
                f"{fault.name}: expected its lines once in {change.file}, found them {len(places)} times. The source "
                "has changed; write the patch anew (git diff -U1)."
            )
        texts[path] = text[: places[0]] + change.after + text[places[0] + len(change.before) :]
    return texts


def run_tests(root: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Exit code and output of pytest in `root`: 0 all passed, 1 some failed, anything else means it did not run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    # No bytecode: a patch that keeps a file's length, made within a second, would not be noticed.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no answer within {TIMEOUT} s"
    return done.returncode, done.stdout + done.stderr


def put_back(fault: Fault, root: Path) -> tuple[str, str]:
    """Verdict on one fault in the scratch copy `root`, which is left as it was: caught, SURVIVED, STALE or BROKEN."""
    try:
        texts = patched(fault, root)
    except ValueError as error:
        return "STALE", str(error)
    whole = {path: path.read_text(encoding="utf-8") for path in texts}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    code, output = run_tests(root, [fault.test])
    for path, text in whole.items():
        path.write_text(text, encoding="utf-8")
    # Pytest's 2 to 5 are an import that fails or a test that is not there: no proof that the test sees the fault.
    return {0: "SURVIVED", 1: "caught"}.get(code, "BROKEN"), output


def timed(fault: Fault, trees: "queue.SimpleQueue[Path]") -> tuple[Fault, str, str, float]:
    """`put_back` in a tree that nobody else works in, with the seconds it took."""
    root, started = trees.get(), time.monotonic()
    try:
        return fault, *put_back(fault, root), time.monotonic() - started
    finally:
        trees.put(root)


def main(words: Sequence[str]) -> int:
    """Run the chosen faults; 0 if every one is caught."""
    chosen = faults(words)
    if not chosen:
        print(f"no patch in {FOLDER.name}/ has a name with one of {list(words)}", file=sys.stderr)
        return 2
    escaped = 0
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(WORKERS) as pool:
        # A tree a worker: each test sees its own fault alone.
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(WORKERS):
            trees.put(Path(scratch) / f"tree{number}")
            copy_repository(Path(scratch) / f"tree{number}")
        root = Path(scratch) / "tree0"
        tests = sorted({fault.test for fault in chosen})
        print(f"{len(tests)} tests without a fault ...", flush=True)
        code, output = run_tests(root, tests)
        if code != 0:
            print(output[-5000:])
            print("a named test does not pass without its fault", file=sys.stderr)
            return 2
        width = max(len(fault.name) for fault in chosen)
        for fault, verdict, output, seconds in pool.map(lambda fault: timed(fault, trees), chosen):
            print(f"{verdict:9} {fault.name:{width}} {seconds:5.0f} s  {fault.test}", flush=True)
            if verdict != "caught":
                escaped += 1
                print(output[-2000:])
    print(f"{len(chosen) - escaped} of {len(chosen)} faults caught")
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
