"""Coverage-guided fuzzing with atheris of every reader of untrusted files. Results go to counts.csv.

pip install atheris
python -m benchmarks.fuzz.run all --runs 100000 --crashes crashes

A case may end with the exceptions that its target documents. Everything else is a crash: another exception, a new
process, an opened pickle, a file written outside the case's folder, a changed environment variable (see `guard`), more
than a second of CPU time. Crashing inputs are saved in the given folder, one for each place in the code. libFuzzer ends
the run at 2 GB.
"""

import argparse
import hashlib
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.fuzz.guard import Violation, guarded
from benchmarks.results_file import put_table, read_rows, write_rows
from reward.cli.flags import ArgumentParser

COUNTS = Path(__file__).with_name("counts.csv")
COLUMNS = ("target", "executions", "seconds", "cpu_seconds", "unique_coverage", "crashes",
           "slowest_cpu_seconds", "peak_mb", "ended")  # fmt: skip
# Target -> module and class, imported under atheris, and the packages whose branches it counts.
TARGETS = {
    "pictures": ("pictures", "Pictures", ("PIL", "reward")),
    "prompts": ("prompts", "Prompts", ("reward", "attention_refine", "open_clip.tokenizer", "ftfy")),
    "tables": ("tables", "Tables", ("reward",)),
    "workbooks": ("tables", "Workbooks", ("openpyxl", "reward", "scipy.io.matlab")),
    "configs": ("configs", "Configs", ("yaml", "rl", "reward")),
    "reward_heads": ("folders", "RewardHeads", ("reward", "safetensors")),
    "backbones": ("folders", "Backbones", ("reward", "open_clip.factory", "open_clip.tokenizer")),
    "loras": ("folders", "Loras", ("rl", "reward", "diffusers.utils.state_dict_utils")),
    "runs": ("folders", "Runs", ("rl", "reward", "attention_refine")),
}
SLOW_SECONDS = 1.0
MOST_MB = 2048


class Case:
    """One target with its counters. Results are written at once, because the process may be killed."""

    def __init__(self, target: Any, folder: Path, crashes: Path) -> None:
        self.target = target
        self.folder, self.crashes = folder, crashes
        self.executions, self.slowest = 0, 0.0
        self.places: set[str] = set()

    def __call__(self, data: bytes) -> None:
        """Run one input. No exception leaves this method."""
        started = time.process_time()
        try:
            with guarded(self.folder):
                self.target.run(data)
        except self.target.allowed:
            pass
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._keep(data, error)
        seconds = time.process_time() - started
        self.executions += 1
        if seconds > self.slowest:
            self.slowest = seconds
        if seconds > SLOW_SECONDS:
            self._keep(data, TimeoutError(f"{seconds:.2f} s of the processor's time"))

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{type(error).__name__} " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[:-4:-1])
        if isinstance(error, Violation):
            place += f" {error}"
        if place in self.places:
            return
        self.places.add(place)
        self.crashes.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(place.encode()).hexdigest()[:12]
        (self.crashes / f"{name}.input").write_bytes(data)
        (self.crashes / f"{name}.txt").write_text(place + "\n\n" + "".join(traceback.format_exception(error)))

    def counts(self) -> dict[str, Any]:
        """So far."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "executions": self.executions, "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "crashes": len(self.places), "slowest_cpu_seconds": self.slowest, "peak_mb": round(used.ru_maxrss / 1024),
        }  # fmt: skip


def main() -> None:
    """Start the fuzzer in its own process, and add its row."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["all", *TARGETS])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=0, help="end after this time; 0: only after --runs")
    parser.add_argument("--crashes", type=Path, required=True, help="folder for inputs that crash")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-length", type=int, default=8192, help="largest input in bytes")
    parser.add_argument("--no-row", action="store_true", help="only print the counts")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        _fuzz(arguments)
    else:
        for name in TARGETS if arguments.target == "all" else [arguments.target]:
            _supervise(name, arguments)


def _supervise(target: str, arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder)
        options = {"runs": arguments.runs, "seconds": arguments.seconds, "crashes": arguments.crashes / target,
                   "seed": arguments.seed, "max-length": arguments.max_length, "inside": root}  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.fuzz.run", target]
        command += [f"--{name}={value}" for name, value in options.items()]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        started = time.monotonic()
        with (root / "log").open("wb") as log:
            code = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            ).returncode
        log_text = (root / "log").read_text(errors="replace")
        counts = json.loads((root / "counts.json").read_text()) if (root / "counts.json").exists() else {}
    found = re.findall(r"cov: (\d+)", log_text)
    row = {"target": target, "seconds": round(time.monotonic() - started, 1)} | counts
    ended = "runs" if counts.get("executions", 0) >= arguments.runs else f"code {code}" if code else "seconds"
    row |= {"unique_coverage": int(found[-1]) if found else "", "ended": ended}
    print(json.dumps(row))
    if code:
        print(log_text[-4000:], file=sys.stderr)
    if not arguments.no_row:
        rows = [old for old in read_rows(COUNTS) if old["target"] != target]
        write_rows(COUNTS, COLUMNS, sorted([*rows, row], key=lambda each: list(TARGETS).index(each["target"])))
        put_table("fuzz/counts.csv", table(read_rows(COUNTS)))


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: one line per target."""
    lines = ["| target | executions | crashes | slowest case, CPU s | peak memory, MB | branches seen | ended by |"]
    lines.append("| --- " * 7 + "|")
    for row in rows:
        counts = f"{int(row['executions']):,} | {row['crashes']} | {float(row['slowest_cpu_seconds']):.3f}"
        lines.append(f"| {row['target']} | {counts} | {row['peak_mb']} | {row['unique_coverage']} | {row['ended']} |")
    return "\n".join(lines)


def _fuzz(arguments: argparse.Namespace) -> None:
    import atheris

    sys.dont_write_bytecode = True
    os.environ["HF_HUB_OFFLINE"] = "1"
    root = arguments.inside
    module, name, packages = TARGETS[arguments.target]
    (root / "case").mkdir()
    with atheris.instrument_imports(include=list(packages)):
        target = getattr(importlib.import_module(f"benchmarks.fuzz.{module}"), name)(root / "case")
        seeds = target.seeds()
        for seed in seeds:  # warm up: imports and the like must not count for the first case
            try:
                target.run(seed)
            except Exception:  # counted later, when the fuzzer runs the same input
                continue
    case = Case(target, root / "case", arguments.crashes)
    (root / "corpus").mkdir()
    for place, seed in enumerate(seeds):
        (root / "corpus" / f"{place:03d}").write_bytes(seed)
    ends = time.monotonic() + arguments.seconds if arguments.seconds else float("inf")

    def one(data: bytes) -> None:
        case(data)
        if case.executions % 1000 == 0 or case.executions <= 3:
            _write_counts(root, case)
        if case.executions >= arguments.runs or time.monotonic() > ends:
            _write_counts(root, case)
            sys.stderr.flush()
            os._exit(0)  # libFuzzer cannot end in a way that lets Python finish

    arguments.crashes.mkdir(parents=True, exist_ok=True)  # libFuzzer saves inputs there that kill the process
    options = [f"-seed={arguments.seed}", f"-max_len={arguments.max_length}", f"-rss_limit_mb={MOST_MB}",
               "-timeout=60", f"-artifact_prefix={arguments.crashes}/", "-report_slow_units=100",
               "-len_control=0"]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(root / "corpus")], one)
    atheris.Fuzz()


def _write_counts(root: Path, case: Case) -> None:
    (root / "counts.json").write_text(json.dumps(case.counts()))


if __name__ == "__main__":
    main()
