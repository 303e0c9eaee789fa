"""Runs that are killed, told to stop, or lose one of their processes: what is left, and how they go on."""

import signal
import socket
import time
from pathlib import Path
from random import Random

from tests.faults.commands import (
    EPOCHS,
    TRAINERS,
    World,
    assert_same,
    assert_whole,
    checkpoints,
    done_epochs,
    finished,
)
from tests.faults.processes import Run

# Seconds in which a run must end that was interrupted, or whose other process is gone.
PROMPTLY = 60


def killed(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """SIGKILL before a random change on the disk, and again after going on."""
    for _ in range(2):
        before = done_epochs(command, output)
        moment = random.randrange(1, world.changes[command] + 1)
        code = world.start(command, output, killed_before_change=(str(output), moment)).wait()
        assert code in (0, -signal.SIGKILL), code
        _check_kept(command, output, before)
        if code == 0:
            break
    # `train` refuses a folder with a finished model; the others have nothing to do then
    if not finished(command, output) or command != "train":
        world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "recovery", "the same command ends bit for bit as an undisturbed run"


def killed_any_time(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """SIGKILL by the clock: in the middle of whatever it is."""
    run = world.start(command, output)
    # Not from the start, where nothing is at stake: from a random number of epochs on.
    begun = random.randrange(EPOCHS)
    run.wait_until(lambda: done_epochs_seen(command, output) >= begun)
    time.sleep(random.uniform(0, 0.3))
    run.send(signal.SIGKILL)
    assert run.wait() in (0, -signal.SIGKILL)
    _check_kept(command, output, 0)
    if not finished(command, output):
        world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "recovery", "the same command ends bit for bit as an undisturbed run"


def terminated(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """SIGTERM after a random epoch has begun."""
    run = world.start(command, output)
    begun = random.randrange(EPOCHS - 1)
    run.wait_until(lambda: done_epochs_seen(command, output) >= max(begun, 1))
    before = done_epochs(command, output)
    run.send(signal.SIGTERM)
    code = run.wait(PROMPTLY)
    if command in TRAINERS:
        assert code == 0, f"{code}: {run.said[-2000:]}"
        stopped = f"Stopped by SIGTERM after epoch {done_epochs(command, output)} of {EPOCHS}" in run.said
        assert stopped or done_epochs(command, output) == EPOCHS, run.said[-2000:]
        notes = "the epoch under way is saved, exit code 0, the last line says how to go on"
    else:
        assert code in (0, 143), f"{code}: {run.said[-2000:]}"
        assert code == 0 or "stopped by SIGTERM" in run.said, run.said[-2000:]
        notes = "ends at once with 143 and says how to go on; finished epochs and parts are kept"
    _check_kept(command, output, before)
    assert not [path for path in output.rglob(".*") if path.is_file() and ".parts" not in str(path)]
    if not finished(command, output) or command in TRAINERS:
        world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "recovery", f"{notes}; the run goes on bit for bit"


def interrupted(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """Ctrl-C after a random epoch has begun."""
    run = world.start(command, output)
    begun = random.randrange(1, EPOCHS - 1)
    run.wait_until(lambda: done_epochs_seen(command, output) >= begun)
    before = done_epochs(command, output)
    run.send(signal.SIGINT)
    code = run.wait(PROMPTLY)
    # 1 is what multiprocessing makes of the KeyboardInterrupt that a program of its own ends with.
    assert code in ((0, 1) if command in TRAINERS else (0, 130)), f"{code}: {run.said[-2000:]}"
    if code:
        how = "--resume_from" if command in TRAINERS else "interrupted"
        assert how in run.said, run.said[-2000:]
    _check_kept(command, output, before)
    if not finished(command, output):
        world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "recovery", "ends at once and says how to go on; the run goes on bit for bit from the last checkpoint"


def worker_lost(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """SIGKILL to one of two processes; the other one must not wait for it."""
    runs = start_two(world, command, output)
    begun = random.randrange(1, EPOCHS - 1)
    runs[0].wait_until(lambda: runs[1].ended or done_epochs_seen(command, output) >= begun)
    time.sleep(random.uniform(0, 0.2))
    before = done_epochs(command, output)
    lost, left = random.choice([(0, 1), (1, 0)])
    runs[lost].send(signal.SIGKILL)
    assert runs[lost].wait() in (0, -signal.SIGKILL)
    code = runs[left].wait(PROMPTLY)
    assert code in (0, 1, 2), f"{code}: {runs[left].said[-2000:]}"
    if code:
        assert "another process of this run has ended" in runs[left].said, runs[left].said[-2500:]
    _check_kept(command, output, before)
    if not finished(command, output):
        runs = start_two(world, command, output)
        codes = [run.wait() for run in runs]
        assert codes == [0, 0], f"{codes}: {runs[0].said[-2000:]} {runs[1].said[-2000:]}"
    if command == "score":
        assert_same(command, output, world.whole(command))
    return "clear error", "the other process ends too and says why; two new processes go on from the last checkpoint"


def start_two(world: World, command: str, output: Path) -> list[Run]:
    """Two processes as a launcher starts them, but without one that would end the other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    extra = ("--sample_batch_size", 2, "--train_batch_size", 2) if command == "ddpo" else ()
    extra = ("--sample_batch_size", 2) if command == "direct" else extra
    ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return [world.start(command, output, extra=extra, environment=rank) for rank in ranks]


def done_epochs_seen(command: str, output: Path) -> int:
    """`done_epochs` of a run that is under way: files come and go meanwhile."""
    try:
        return done_epochs(command, output)
    except (FileNotFoundError, ValueError):
        return 0


def _check_kept(command: str, output: Path, before: int) -> None:
    if not output.exists():
        return
    assert_whole(output)
    done = done_epochs(command, output)
    lost = done < before and not (command == "score" and finished(command, output))
    assert not lost, f"{before} epochs or parts were finished, {done} are there."
    if command in TRAINERS and (output / "run" / "metrics.csv").exists() and checkpoints(output):
        rows = (output / "run" / "metrics.csv").read_text().count("\n") - 1
        assert done >= rows - 1, f"{rows} epochs were run, the newest checkpoint is of epoch {done}."


