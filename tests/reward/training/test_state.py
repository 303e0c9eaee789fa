import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reward.training.state import read_state, write_state

TENSORS = {"weights": torch.arange(4.0), "tied": torch.arange(4.0)}
VALUES = {"epoch": 3, "history": {"loss": [0.1, float("nan")]}}


def test_round_trip(tmp_path):
    write_state(tmp_path / "state", TENSORS, VALUES)
    tensors, values = read_state(tmp_path / "state")
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert values["epoch"] == 3 and str(values["history"]) == str(VALUES["history"])


@pytest.mark.parametrize("seed", range(40))
def test_one_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path, seed):
    write_state(tmp_path / "state", TENSORS, VALUES)
    data = bytearray((tmp_path / "state").read_bytes())
    place = random.Random(seed)
    data[place.randrange(len(data))] ^= 1 << place.randrange(8)
    (tmp_path / "state").write_bytes(data)
    try:
        tensors, values = read_state(tmp_path / "state")
    except ValueError as error:
        assert "could not read it: " in str(error) and "; delete it to start over" in str(error)
    else:
        # In the header's padding, or in the word "digest" itself: then it is read as a state of an earlier version.
        assert str(values) == str(VALUES) and tensors.keys() == TENSORS.keys()
        assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_another_number_is_noticed(tmp_path):
    write_state(tmp_path / "state", TENSORS, VALUES)
    data = (tmp_path / "state").read_bytes()
    for changed in (data[:-1] + bytes([data[-1] ^ 1]), data.replace(b'epoch\\": 3', b'epoch\\": 2')):
        assert changed != data
        (tmp_path / "state").write_bytes(changed)
        with pytest.raises(ValueError, match="the contents have changed.*; delete it to start over"):
            read_state(tmp_path / "state")


def test_states_of_earlier_versions_have_no_digest(tmp_path):
    write_state(tmp_path / "state", TENSORS, VALUES)
    with safe_open(tmp_path / "state", framework="pt") as file:
        metadata = file.metadata()
    del metadata["digest"]
    save_file(load_file(tmp_path / "state"), tmp_path / "state", metadata=metadata)
    assert read_state(tmp_path / "state")[1]["epoch"] == 3
