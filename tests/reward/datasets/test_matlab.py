"""Our reader of MATLAB numbers reads what scipy writes, and ends damaged files in an exception."""

import numpy as np
import pytest
import scipy.io

from reward.datasets.matlab import read_matlab_numbers


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (48, 1), (2, 3), (2, 3, 4), (0, 2)])
def test_what_scipy_writes(tmp_path, shape, dtype, compress):
    numbers = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = tmp_path / "numbers.mat"
    others = {"a": np.ones((3, 3)), "text": "x", "cells": np.array([1, "b"], dtype=object)}
    scipy.io.savemat(path, others | {"MOSz": numbers}, do_compression=compress)
    found = read_matlab_numbers(path, "MOSz")
    assert found.dtype == np.float64 and found.shape == scipy.io.loadmat(path)["MOSz"].shape
    assert np.array_equal(found, numbers)


@pytest.mark.parametrize("value", ["text", np.array([1j]), {"field": 1}, np.array([1, "b"], dtype=object)])
def test_other_kinds_are_no_numbers(tmp_path, value):
    scipy.io.savemat(tmp_path / "other.mat", {"MOSz": value})
    assert read_matlab_numbers(tmp_path / "other.mat", "MOSz") is None
    assert read_matlab_numbers(tmp_path / "other.mat", "no such name") is None


@pytest.mark.parametrize("compress", [False, True])
def test_every_cut_and_changed_byte_ends_in_numbers_or_a_value_error(tmp_path, compress):
    path = tmp_path / "damaged.mat"
    scipy.io.savemat(path, {"MOSz": np.linspace(28, 72, 6)}, do_compression=compress)
    whole, refused = path.read_bytes(), 0
    damaged = [whole[:length] for length in range(0, len(whole), 3)]
    for at in range(116, len(whole)):
        damaged += [whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for bit in (1, 128)]
    for content in damaged:
        path.write_bytes(content)
        try:
            read_matlab_numbers(path, "MOSz")
        except ValueError:
            refused += 1
    assert refused > len(damaged) / 4


def test_other_versions_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "four.mat", {"MOSz": np.ones(3)}, format="4")
    (tmp_path / "hdf5.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(600))
    for name in ("four.mat", "hdf5.mat"):
        with pytest.raises(ValueError, match="Expected a MATLAB file of version 5 to 7"):
            read_matlab_numbers(tmp_path / name, "MOSz")
