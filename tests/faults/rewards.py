"""Rewards that raise, hang, or return what is no reward; and models and tables that give such numbers."""

import json
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from random import Random

from tests.faults.commands import EPOCHS, World, assert_same, assert_whole, checkpoints, done_epochs
from tests.faults.stops import PROMPTLY

# Two batches an epoch.
_CALLS = 2 * EPOCHS
_MESSAGES = {
    "raise": "the scorer's server has gone away",
    "nan": "Expected finite rewards, got [nan",
    "infinite": "Expected finite rewards, got [inf",
    "shape": "Expected reward 'noisy_redness' to return shape (4,), one number per picture, got (4, 2)",
    "text": "Expected reward 'noisy_redness' to return",
    "hang": "Expected reward 'noisy_redness' to answer for 4 pictures within reward_timeout = 3 s",
}


def _bad_reward(fault: str, world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    call = random.randrange(3, _CALLS + 1)
    extra = ("--reward_timeout", 3) if fault == "hang" else ()
    if command == "ddpo" and random.random() < 0.5:
        extra += ("--async_reward_computation", "true", "--max_workers", 1)
    run = world.start(command, output, extra=extra, environment=_faulty(fault, call))
    code = run.wait()
    assert code == 1 and _MESSAGES[fault] in run.said, f"{code}: {run.said[-2500:]}"
    # The epoch of a call is the one under way; all before are kept.
    kept = (call - 1) // 2
    assert done_epochs(command, output) == kept, f"{done_epochs(command, output)} of {kept}"
    newest = f"The newest checkpoint is {checkpoints(output)[-1]}"
    assert newest in run.said and "--resume_from" in run.said, run.said[-2500:]
    assert_whole(output)
    if fault in ("nan", "infinite"):
        record = json.loads((output / "run" / "failure" / "process0.json").read_text())
        assert record["epoch"] == kept + 1 and (output / "run" / "failure" / record["pictures"][0]["picture"]).exists()
    world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "clear error", "names the reward, no update is made with it; mended, the run goes on bit for bit"


raises, infinite, nan, wrong_shape, no_numbers, hangs = (
    partial(_bad_reward, fault) for fault in ("raise", "infinite", "nan", "shape", "text", "hang")
)


def hangs_without_limit(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """Without reward_timeout: Ctrl-C ends the run, also where SIGTERM has already been waiting for the epoch's end."""
    call = random.randrange(3, _CALLS + 1)
    extra = ("--async_reward_computation", "true", "--max_workers", 1) if command == "ddpo" else ()
    run = world.start(command, output, extra=extra, environment=_faulty("hang", call))
    kept = (call - 1) // 2
    assert run.wait_until(lambda: done_epochs(command, output) >= kept)
    if random.random() < 0.5:
        run.send(signal.SIGTERM)
    time.sleep(random.uniform(0, 0.5))
    run.send(signal.SIGINT)
    code = run.wait(PROMPTLY)
    assert code == 1 and "KeyboardInterrupt" in run.said and "--resume_from" in run.said, f"{code}: {run.said[-2500:]}"
    assert done_epochs(command, output) == kept
    world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "recovery", "Ctrl-C ends it at once, a SIGTERM waits for the epoch; the newest checkpoint is kept"


def nan_in_the_inputs(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """score: a model with NaN among its weights; train: a human score that is no number."""
    if command == "score":
        model = _spoiled_model(world, output, lambda weights: weights.fill_(float("nan")))
        run = world.start(command, output, extra=("--model", model))
        assert run.wait() == 1 and "72 of 72 pictures have no score" in run.said, run.said[-2500:]
        assert "no finite number (nan)" in run.said
        assert (output / "scores.csv").read_text() == "path,prompt,score\n"
    else:
        _table_with(world, output, random.choice(["nan", "inf", "", "good"]))
        run = world.start(command, output, extra=("--data", output / "table.csv"))
        assert run.wait() == 2 and "table.csv" in run.said and "Traceback" not in run.said, run.said[-2500:]
        (output / "table.csv").unlink()
    world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "clear error", "names pictures (score) or line (train); with what it should be the command ends as ever"


def wrong_shape_of_weights(world: World, command: str, random: Random, output: Path) -> tuple[str, str]:
    """score: a model whose weights do not fit its config."""
    model = _spoiled_model(world, output, lambda weights: weights.repeat(2, *[1] * (weights.ndim - 1)))
    run = world.start(command, output, extra=("--model", model))
    assert run.wait() == 2 and str(model) in run.said and "Traceback" not in run.said, run.said[-2500:]
    assert not (output / "scores.csv").exists()
    world.finish(command, output)
    assert_same(command, output, world.whole(command))
    return "clear error", "names the weights' file, before anything is scored"


def _faulty(fault: str, call: int) -> dict[str, str]:
    return {"REWARD_FAULT": fault, "REWARD_FAULT_CALL": str(call)}


def _spoiled_model(world: World, output: Path, spoil) -> Path:
    from safetensors.torch import load_file, save_file

    model = output.with_name(f"{output.name}.model")
    shutil.copytree(world.folder / "model", model)
    weights = load_file(model / "model.safetensors")
    name = "modulation.weight" if "modulation.weight" in weights else next(iter(sorted(weights)))
    save_file(weights | {name: spoil(weights[name]).contiguous()}, model / "model.safetensors")
    return model


def _table_with(world: World, output: Path, cell: str) -> None:
    lines = (world.folder / "pictures" / "scores.csv").read_text().splitlines()
    lines = [lines[0]] + [f"{world.folder / 'pictures'}/{line}" for line in lines[1:]]
    lines[10] = lines[10].rpartition(",")[0] + f",{cell}"
    output.mkdir(parents=True)
    (output / "table.csv").write_text("\n".join(lines) + "\n")
