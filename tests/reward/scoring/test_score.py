"""Scores of many pictures: equal to those of single ones, and the same file however often the run was cut."""

import csv
import gc
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from PIL import Image

from reward.scoring.inputs import PictureRow, find_rows
from reward.scoring.score import PART_BATCHES, model_digest, score_parts, score_to_file, split_rows

ROOT = Path(__file__).parents[3]
BATCH = 2
PART = BATCH * PART_BATCHES
COUNT = 3 * PART + 3


@pytest.fixture
def pictures(tmp_path):
    """Of many sizes, with a table that gives each a prompt."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    colours = ("red", "green", "blue", "yellow", "red", "green")
    lines = ["image,prompt"]
    for i in range(COUNT):
        pixels = torch.randint(0, 256, (20 + 3 * (i % 5), 24 + i % 7, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{i:02d}.png")
        lines.append(f"{i:02d}.png,a {colours[i % 6]} {('circle', 'square')[i % 2]}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder


def scored(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def part_files(output):
    folder = output.with_name(f".{output.name}.parts")
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_each_score_is_that_of_the_single_pair(reward, pictures, tmp_path):
    rows = find_rows([], pictures / "pairs.csv")
    count, problems = score_to_file(reward, rows, tmp_path / "s.csv", batch_size=BATCH, progress=False)
    found = scored(tmp_path / "s.csv")
    assert count.scored == len(found) == COUNT and count.unreadable == 0 and not list(problems)
    assert [row["path"] for row in found] == [str(pictures / f"{i:02d}.png") for i in range(COUNT)]
    alone = [reward(row["path"], row["prompt"]).item() for row in found]
    # Batches and single pairs round differently, by some 1e-6 of scores of this size.
    assert [float(row["score"]) for row in found] == pytest.approx(alone, rel=1e-5, abs=1e-4)
    assert not part_files(tmp_path / "s.csv")


class Cut(Exception):
    pass


def cut_after(reward, calls):
    """Stops a run in the middle of a part."""
    left = iter(range(calls))

    def stop(module, inputs):
        if next(left, None) is None:
            raise Cut

    return reward.register_forward_pre_hook(stop)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_run_that_was_cut_goes_on_and_gives_the_same_file(reward, pictures, tmp_path, suffix):
    rows = find_rows([], pictures / "pairs.csv")
    whole, output = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    score_to_file(reward, rows, whole, batch_size=BATCH, progress=False)
    for calls in (PART_BATCHES + 1, PART_BATCHES + 2):
        hook = cut_after(reward, calls)
        with pytest.raises(Cut):
            score_to_file(reward, rows, output, batch_size=BATCH, progress=False)
        hook.remove()
        assert not output.exists()
    assert len(part_files(output)) == 2
    asked = []
    hook = reward.register_forward_pre_hook(lambda module, inputs: asked.extend(inputs[1]))
    score_to_file(reward, rows, output, batch_size=BATCH, progress=False)
    hook.remove()
    assert len(asked) == COUNT - 2 * PART
    assert output.read_bytes() == whole.read_bytes()
    assert not part_files(output)


def test_parts_of_another_model_or_of_changed_pictures_are_not_taken(reward, pictures, tmp_path):
    rows, output = find_rows([], pictures / "pairs.csv"), tmp_path / "s.csv"

    def cut_run():
        hook = cut_after(reward, 2 * PART_BATCHES)
        with pytest.raises(Cut):
            score_to_file(reward, rows, output, batch_size=BATCH, progress=False)
        hook.remove()

    cut_run()
    with torch.no_grad():
        next(reward.head.parameters()).add_(0.1)
    cut_run()
    assert len(part_files(output)) == 4
    Image.new("RGB", (30, 30), "red").save(pictures / "00.png")
    score_to_file(reward, rows, output, batch_size=BATCH, progress=False)
    fresh = tmp_path / "fresh.csv"
    score_to_file(reward, rows, fresh, batch_size=BATCH, progress=False)
    assert output.read_bytes() == fresh.read_bytes()
    assert not part_files(output)


def test_mended_pictures_are_scored_and_the_rest_is_not_scored_again(reward, pictures, tmp_path):
    rows, output = find_rows([], pictures / "pairs.csv"), tmp_path / "s.csv"
    good = (pictures / "09.png").read_bytes()
    (pictures / "09.png").write_bytes(good[:60])
    count, problems = score_to_file(reward, rows, output, batch_size=BATCH, progress=False)
    assert (count.scored, count.unreadable) == (COUNT - 1, 1)
    assert [str(pictures / "09.png") in line for line in problems] == [True]
    assert len(scored(output)) == COUNT - 1
    (pictures / "09.png").write_bytes(good)
    asked = []
    hook = reward.register_forward_pre_hook(lambda module, inputs: asked.extend(inputs[1]))
    count, problems = score_to_file(reward, rows, output, batch_size=BATCH, progress=False)
    hook.remove()
    assert (count.scored, count.unreadable, list(problems)) == (COUNT, 0, [])
    assert len(asked) == PART
    fresh = tmp_path / "fresh.csv"
    score_to_file(reward, rows, fresh, batch_size=BATCH, progress=False)
    assert output.read_bytes() == fresh.read_bytes()


def test_whatever_a_decoder_raises_is_a_line_and_not_the_end(reward, pictures, monkeypatch):
    def broken(image, keep_bytes):
        raise IndexError("table out of range")

    monkeypatch.setattr("reward.images.preprocess.read_image", broken)
    parts = list(split_rows(find_rows([pictures], None, "red"), BATCH, ""))
    [(_, records), *_] = score_parts(reward, parts, BATCH)
    assert records[0]["error"] == f"{pictures / '00.png'}: IndexError: table out of range"


def test_a_score_that_is_no_number_is_no_score(reward, pictures):
    with torch.no_grad():
        for parameter in reward.head.modulation.parameters():
            parameter.fill_(float("nan"))
    parts = split_rows(find_rows([pictures], None, "red"), BATCH, "")
    assert all(
        "no finite number" in record["error"] for _, records in score_parts(reward, parts, BATCH) for record in records
    )


def test_the_digest_knows_every_weight_and_setting(reward):
    before = model_digest(reward)
    assert model_digest(reward) == before
    with torch.no_grad():
        reward.backbone.model.logit_scale.add_(1e-3)
    assert model_digest(reward) != before


def test_rows_are_not_held(reward, tmp_path):
    """A long table is pulled a few batches ahead of the scores, not as a whole."""
    pulled = 0

    def rows():
        nonlocal pulled
        for i in range(10_000):
            pulled += 1
            yield PictureRow(str(tmp_path / f"{i}.png"), "red")

    parts = score_parts(reward, split_rows(rows(), BATCH, ""), BATCH)
    next(parts)
    assert pulled < 20 * PART
    parts.close()


ENTRY = """
import sys, time
import reward.scoring.score
from reward.cli.main import main

plain = reward.scoring.score._score

def slowly(*arguments):
    time.sleep(0.05)
    return plain(*arguments)

reward.scoring.score._score = slowly
sys.exit(main(sys.argv[1:]))
"""


def command_line(pictures, model, output):
    table = ["--table", str(pictures / "pairs.csv"), "--batch-size", str(BATCH), "--quiet"]
    return ["score", *table, "--model", str(model), "--output", str(output)]


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.fixture
def saved(reward, tmp_path):
    reward.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_killed_run_goes_on(reward, saved, pictures, tmp_path):
    output, whole = tmp_path / "killed.csv", tmp_path / "whole.csv"
    (tmp_path / "slow.py").write_text(ENTRY)
    command = [sys.executable, str(tmp_path / "slow.py"), *command_line(pictures, saved, output)]
    run = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not part_files(output) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL, "it ended before it was killed"
    assert 0 < len(part_files(output)) < 4 and not output.exists()
    torch.set_num_threads(1)
    rows = find_rows([], pictures / "pairs.csv")
    from reward import HyperAlignReward

    loaded = HyperAlignReward.from_pretrained(saved)
    score_to_file(loaded, rows, output, batch_size=BATCH, progress=False)
    score_to_file(loaded, rows, whole, batch_size=BATCH, progress=False)
    assert output.read_bytes() == whole.read_bytes()


def test_two_processes_give_the_same_file(saved, pictures, tmp_path):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    subprocess.run(
        [sys.executable, "-m", "reward.cli", *command_line(pictures, saved, one)], cwd=ROOT, env=environment(),
        check=True, capture_output=True, timeout=200,
    )  # fmt: skip
    launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--config_file"]
    launch += ["configs/accelerate/two_cpu_processes.yaml", "-m", "reward.cli", *command_line(pictures, saved, two)]
    launcher = subprocess.Popen(
        launch, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, complained = launcher.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        # the launcher's workers too, or they outlive the test
        os.killpg(launcher.pid, signal.SIGKILL)
        raise
    assert launcher.returncode == 0, complained[-3000:]
    assert said.count(f"{COUNT} scores in") == 1
    assert two.read_bytes() == one.read_bytes()
    assert not part_files(two)


def test_memory_does_not_grow_with_the_rows(reward, tmp_path, monkeypatch):
    # Nothing may be held of a row that is written: a single pointer a row would be seen here.
    monkeypatch.setattr(type(reward), "forward", lambda self, pictures, prompts: torch.zeros(len(prompts)))

    def peak(count):
        with (tmp_path / "pairs.csv").open("w") as table:
            table.write("image,prompt\n")
            table.writelines(f"{i % 8}.png,a red circle {i}\n" for i in range(count))
        gc.collect()
        tracemalloc.start()
        rows = find_rows([], tmp_path / "pairs.csv")
        found, _ = score_to_file(reward, rows, tmp_path / f"{count}.csv", batch_size=64, progress=False)
        assert found.scored == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    for i in range(8):
        Image.new("RGB", (8, 8), (30 * i, 0, 0)).save(tmp_path / f"{i}.png")
    peak(300)  # caches and imports of the first run
    # Another thread of the process may allocate meanwhile, which only adds: the smaller of two peaks is ours.
    assert min(peak(10_000) for _ in range(2)) - peak(1_000) < 9_000 * 8


def test_a_process_asks_the_disk_about_its_own_share_alone(pictures, monkeypatch):
    asked = []
    monkeypatch.setattr("reward.scoring.score._state_on_disk", asked.append)
    rows = list(find_rows([], pictures / "pairs.csv"))
    whole = list(split_rows(rows, BATCH, "model"))
    asked.clear()
    assert list(split_rows(rows, BATCH, "model", (1, 2))) == whole[1::2]
    assert asked == [row.path for part in whole[1::2] for row in part.rows]
