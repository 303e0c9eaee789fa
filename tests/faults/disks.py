"""Disks that are full, files and folders without permission, and files that are not what was written."""

import errno
import os
import shutil
from pathlib import Path
from random import Random

import pytest

from tests.faults import harm
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


def full_disk(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """A disk with room for a part of the run; then the files are moved to one with more."""
    if not harm.can_mount(world.folder):
        pytest.skip("This machine does not let us mount a small file system.")
    size = int(_disk_use(world.whole(command)) * random.uniform(0.05, 0.95)) // 4096 * 4096
    run = world.start(command, output, small_disk=(str(output), max(size, 4096)))
    code = run.wait()
    shutil.rmtree(output)
    Path(f"{output}.aside").rename(output)
    return _no_room(world, command, output, run, code, errno.ENOSPC)


def file_too_large(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """No file may grow beyond a limit, as a quota has it: this needs no mount."""
    sizes = sorted(path.stat().st_size for path in world.whole(command).rglob("*") if path.is_file())
    run = world.start(command, output, small_files=random.randrange(1, sizes[-1]))
    return _no_room(world, command, output, run, run.wait(), errno.EFBIG)


def _no_room(world, command, output, run, code, number) -> tuple[str, str]:
    if code:
        assert os.strerror(number) in run.said, f"{code}: {run.said[-2500:]}"
        assert str(output) in run.said.partition(os.strerror(number))[2], f"No path: {run.said[-2500:]}"
        if command not in TRAINERS:
            assert code == 2 and "Traceback" not in run.said, f"{code}: {run.said[-2500:]}"
        elif checkpoints(output):
            assert "--resume_from" in run.said, run.said[-2500:]
    else:
        assert finished(command, output)
    assert_whole(output)
    for checkpoint in checkpoints(output) if command in TRAINERS else ():
        assert_undamaged(checkpoint)
    if not finished(command, output):
        world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "clear error", "names the file; what was finished is whole, and with room again the run ends bit for bit"


def unreadable(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """An input without permission to read it; it is mended, and the command run again."""
    names = {
        "score": ["pictures/5.png", "pictures/scores.csv", "model/model.safetensors", "model/config.json"],
        "train": ["pictures/5.png", "pictures/scores.csv", "open-clip/open_clip_model.safetensors"],
    }.get(command, ["pipeline/unet/diffusion_pytorch_model.safetensors", f"{command}.yaml"])
    victim = world.folder / random.choice(names)
    mode = victim.stat().st_mode
    victim.chmod(0)
    try:
        run = world.start(command, output, permissions_obeyed=True)
        code = run.wait()
    finally:
        victim.chmod(mode)
    assert code == (1 if command == "score" and victim.suffix == ".png" else 2 if command not in TRAINERS else 1)
    assert str(victim) in run.said, run.said[-2500:]
    if command not in TRAINERS or victim.suffix == ".yaml":
        assert "Traceback" not in run.said, run.said[-2500:]
    if code == 1 and command == "score":
        rows = (output / "scores.csv").read_text().splitlines()
        whole = (world.whole(command) / "scores.csv").read_text().splitlines()
        # In another batch a picture has another score, by a rounding error.
        assert _without_score(rows) == [row for row in _without_score(whole) if str(victim) not in row]
    world.finish(command, output)
    if command == "train" and victim.suffix == ".png":
        # For the same reason; its features are in the cache from here on.
        shutil.rmtree(output)
        world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "clear error", "names the file, all else is done; when it can be read again the command ends as ever"


def unwritable(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """An output folder without permission to write."""
    done = world.unfinished(command, output, random)
    folders = [path for path in [output, *output.rglob("*")] if path.is_dir()]
    for folder in folders:
        folder.chmod(0o500)
    try:
        run = world.start(command, output, permissions_obeyed=True)
        code = run.wait()
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert code == (1 if command in TRAINERS else 2), f"{code}: {run.said[-2500:]}"
    assert f"Permission denied: '{output}" in run.said, run.said[-2500:]
    assert done_epochs(command, output) == done
    world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "clear error", "names the file; what was finished stays, and with permission the run goes on"


def flipped_byte(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """One byte of what an unfinished run would go on from is changed."""
    return _damaged(world, command, random, output, _flip)


def cut_short(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """A file of what an unfinished run would go on from loses its end."""
    return _damaged(world, command, random, output, _cut)


def _damaged(world, command, random, output, damage) -> tuple[str, str]:
    world.unfinished(command, output, random)
    if command in TRAINERS:
        while len(checkpoints(output)) < 2:
            shutil.rmtree(output)
            world.unfinished(command, output, random)
        newest = checkpoints(output)[-1]
        victim = random.choice(sorted(newest.iterdir()))
        damage(victim, random)
        run = world.finish(command, output)
        assert "Damaged checkpoints are skipped" in run.said and str(newest) in run.said, run.said[-2500:]
        assert_same(command, output, world.whole(command))
        # All of them, or the very one that was asked for.
        for folder in checkpoints(output):
            damage(random.choice(sorted(folder.iterdir())), random)
        asked = checkpoints(output)[-1] if random.random() < 0.5 else output / "run"
        run = world.start(command, output, extra=("--resume_from", asked, "--num_epochs", EPOCHS + 1))
        assert run.wait() == 1 and "resume_from: expected a whole checkpoint" in run.said, run.said[-2500:]
        return "recovery", "the newest undamaged checkpoint is taken, and the run says so; without any: a clear error"
    if command == "score":
        damage(random.choice(sorted((output / ".scores.csv.parts").glob("[0-9]*.jsonl"))), random)
        world.finish(command, output)
        assert_same(command, output, world.whole(command))
        return "recovery", "the damaged part is scored anew; the file is the undisturbed one"
    state = output / "run" / "training_state.safetensors"
    damage(state, random)
    run = world.start(command, output)
    code = run.wait()
    # 0: the bit was in the header's padding, where it changes nothing.
    if code:
        assert code == 2 and f"training run at {state}" in run.said and "delete it" in run.said, run.said[-2500:]
        # All of it: what was saved of a model before the kill would be in the way of a run that starts anew.
        shutil.rmtree(output / "run")
        world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "clear error", "names the state's file; trained anew it ends as ever"


def damaged_cache(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """One byte of the cached features is changed."""
    world.unfinished(command, output, random)
    _flip(next((output / "cache").glob("*.safetensors")), random)
    run = world.finish(command, output)
    assert "is not a valid feature cache" in run.said, run.said[-2500:]
    assert_same(command, output, world.whole(command))
    return "recovery", "the features are computed anew, with a warning; the run ends bit for bit"


def assert_undamaged(checkpoint: Path) -> None:
    from rl.runs.checkpoints import damage

    assert damage(checkpoint) == ""


def _without_score(rows: list[str]) -> list[str]:
    return [row.rpartition(",")[0] for row in rows]


def _flip(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def _cut(path: Path, random: Random) -> None:
    os.truncate(path, random.randrange(path.stat().st_size))


def _disk_use(folder: Path) -> int:
    """In bytes of whole pages, as a tmpfs counts them."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())
