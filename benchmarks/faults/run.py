"""How commands behave when something goes wrong. Runs the faults of tests/faults; one row of results.csv per fault.

python benchmarks/faults/run.py --rounds 10
python benchmarks/faults/run.py --rounds 50 --only "kill -9"
python benchmarks/faults/run.py --table              # write the table of README.md, from results.csv

In each round the fault happens at another random moment; the round's number is its seed. A failed round is a defect:
its message is in the notes, and the exit code is 1. Rounds that are in results.csv are not run again.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(ROOT))

from reward.cli.flags import ArgumentParser  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("command", "fault", "rounds", "outcome", "notes")


def main() -> int:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="run only faults with this text in FAULT or COMMAND: FAULT")
    parser.add_argument("--max-seconds", type=float, default=float("inf"), help="start no round after this time")
    parser.add_argument("--table", action="store_true", help="write the table into README.md, run nothing")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    from benchmarks.results_file import put_table, read_rows, write_rows

    rows = {(row["command"], row["fault"]): row for row in read_rows(RESULTS)}
    if arguments.table:
        put_table("faults/results.csv", table(rows.values()))
        return 0

    from tests.faults.cases import CASES
    from tests.faults.commands import build_world

    until = time.monotonic() + arguments.max_seconds
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        world = build_world(Path(scratch) / "world")
        # Run every fault once before the next round, so that an interrupted run has covered all faults.
        for number in range(arguments.rounds):
            for (command, fault), function in CASES.items():
                if arguments.only not in f"{command}: {fault}" or time.monotonic() > until:
                    continue
                row = rows.setdefault((command, fault), {"command": command, "fault": fault, "rounds": 0})
                if row.get("outcome") == "defect" or int(row["rounds"]) > number:
                    continue
                row |= one_round(world, command, fault, function, number, Path(scratch) / "round")
                failed |= row["outcome"] == "defect"
                print(f"{command}: {fault}, round {number}: {row['outcome']}", flush=True)
                write_rows(RESULTS, COLUMNS, rows.values())
    return int(failed)


def one_round(world, command: str, fault: str, function, number: int, folder: Path) -> dict:
    """Run one round; returns its columns. A skipped round counts 0 rounds."""
    import shutil

    import pytest

    try:
        outcome, notes = function(world, command, Random(f"{command} {fault} {number}"), folder)
    except pytest.skip.Exception as reason:
        return {"outcome": "not tried", "notes": str(reason)}
    except AssertionError as error:
        outcome, notes = "defect", " ".join(str(error).split())[-300:]
    finally:
        for path in folder.parent.glob(f"{folder.name}*"):
            shutil.rmtree(path)
    return {"rounds": number + 1, "outcome": outcome, "notes": notes}


def table(rows) -> str:
    """Markdown: one line per fault and outcome, with the commands and their numbers of rounds."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        key = (row["fault"], row["outcome"], row["notes"])
        grouped.setdefault(key, []).append(f"{row['command']} {row['rounds']}")
    order = list(dict.fromkeys(key[0] for key in grouped))
    lines = ["| fault | commands, rounds | outcome | what was seen |", "| --- | --- | --- | --- |"]
    for (fault, outcome, notes), commands in sorted(grouped.items(), key=lambda item: order.index(item[0][0])):
        lines.append(f"| {fault} | {', '.join(commands)} | {outcome} | {notes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
