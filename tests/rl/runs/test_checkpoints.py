import os

import pytest
import torch

from rl.runs.checkpoints import (
    damage,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


def save(run, number, keep=2, **changes):
    values = dict(tensors={"a": torch.arange(3)}, state={"epoch": number}, write_rest=lambda folder: None)
    return save_checkpoint(run, number, keep=keep, **(values | changes))


def test_round_trip_and_limit(tmp_path):
    for number in (2, 9, 10):
        save(tmp_path, number)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint_9", "checkpoint_10"]
    assert find_checkpoint(tmp_path).name == "checkpoint_10"
    assert find_checkpoint(tmp_path / "checkpoints" / "checkpoint_9").name == "checkpoint_9"
    tensors, state = load_checkpoint(find_checkpoint(tmp_path))
    assert torch.equal(tensors["a"], torch.arange(3)) and state == {"epoch": 10}
    save(tmp_path, 10, state={"epoch": 10, "again": True})
    assert load_checkpoint(find_checkpoint(tmp_path))[1]["again"]


def test_an_interrupted_save_leaves_the_last_one(tmp_path):
    save(tmp_path, 1)

    def fail(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, write_rest=fail)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint_1"]
    save(tmp_path, 2)
    assert find_checkpoint(tmp_path).name == "checkpoint_2"


def test_a_checkpoint_that_goes_is_renamed_before_it_is_emptied(tmp_path, monkeypatch):
    save(tmp_path, 1)
    save(tmp_path, 2)
    removed = []
    monkeypatch.setattr("rl.runs.checkpoints.shutil.rmtree", lambda path: removed.append(path.name))
    save(tmp_path, 2, keep=1)
    assert removed == [".checkpoint_2.old", ".checkpoint_1.old"]
    monkeypatch.undo()
    # As after a kill: nothing was emptied, and the next save sweeps up.
    save(tmp_path, 3)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["checkpoint_2", "checkpoint_3"]


@pytest.mark.parametrize("name", ["training_state.safetensors", "state.json", "config.yaml", "SHA256SUMS"])
def test_a_damaged_checkpoint_is_left_out(tmp_path, name, capsys):
    for number in (1, 2):
        save(tmp_path, number, write_rest=lambda folder: (folder / "config.yaml").write_text("seed: 1"))
    newest = find_checkpoint(tmp_path)
    assert newest.name == "checkpoint_2" and damage(newest) == "" and not capsys.readouterr().out
    data = bytearray((newest / name).read_bytes())
    data[len(data) // 2] ^= 4
    (newest / name).write_bytes(data)
    assert find_checkpoint(tmp_path).name == "checkpoint_1"
    assert f"{newest}: " in capsys.readouterr().out
    assert find_checkpoint(tmp_path, tell=False).name == "checkpoint_1" and not capsys.readouterr().out
    with pytest.raises(ValueError, match="expected a whole checkpoint, got .*checkpoint_2: .* give the run folder"):
        find_checkpoint(newest)
    (tmp_path / "checkpoints" / "checkpoint_1" / "state.json").unlink()
    with pytest.raises(ValueError, match="got only damaged ones: .*checkpoint_2.*checkpoint_1: state.json is missing"):
        find_checkpoint(tmp_path)


def test_checkpoints_of_earlier_versions_have_no_sums(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "checkpoint_1" / "SHA256SUMS").unlink()
    assert find_checkpoint(tmp_path).name == "checkpoint_1"


def test_what_a_full_disk_leaves_of_a_checkpoint_is_removed(tmp_path):
    save(tmp_path, 1)

    def fail(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device: '.*checkpoint_2'"):
        save(tmp_path, 2, write_rest=fail)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint_1"]


def test_files_are_on_the_disk_before_the_folder_has_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: order.append("file") or fsync(number))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append(paths[1].name) or replace(*paths))
    save(tmp_path, 1)
    assert order[-4:] == ["file", "file", "file", "checkpoint_1"]


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="checkpoint_N"):
        find_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="training_state"):
        load_checkpoint(tmp_path)


def test_optimizer_goes_on_bit_for_bit():
    def step(weight, optimizer, number):
        weight.grad = torch.full((4,), float(number))
        optimizer.step()

    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    for number in range(3):
        step(weight, optimizer, number)
    tensors, values = optimizer_tensors(optimizer)
    other = torch.nn.Parameter(weight.detach().clone())
    restored = torch.optim.AdamW([other], lr=0.1)
    restore_optimizer(restored, {name: tensor.clone() for name, tensor in tensors.items()}, values)
    for number in (5, -2):
        step(weight, optimizer, number)
        step(other, restored, number)
    assert torch.equal(weight, other)


def test_optimizer_of_another_size_is_refused():
    small = torch.nn.Parameter(torch.ones(1))
    small.grad = torch.ones(1)
    optimizer = torch.optim.AdamW([small])
    optimizer.step()
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1)) for _ in range(2)])
    with pytest.raises(ValueError, match="2 parameters, got 1"):
        restore_optimizer(other, *optimizer_tensors(optimizer))
