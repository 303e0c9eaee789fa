import collections
import copyreg
import datetime
import os
import pickle
import pickletools
import random
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reward.serving.plain_pickle import NotPlainError, dumps, loads

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner, inner),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(plain, st.sampled_from([3, 4, 5]))
def test_plain_data_comes_back(value, protocol):
    assert loads(pickle.dumps(value, protocol)) == value


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text() | st.integers() | st.floats(allow_nan=False)), st.sampled_from([0, 1, 2]))
def test_old_protocols_are_read_too(value, protocol):
    assert loads(pickle.dumps({"scores": value}, protocol)) == {"scores": value}


def test_what_is_written_any_python_reads():
    value = {"scores": [0.1, -2.0]}
    assert pickle.loads(dumps(value)) == value and loads(dumps(value)) == value


def test_objects_that_are_shared_stay_shared():
    metadata = {"a": 1}
    found = loads(pickle.dumps([metadata] * 3))
    assert found == [metadata] * 3 and found[0] is found[2]


class Runs:
    """Creates a file where it is unpickled as Python does it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Plain:
    pass


class Slots(dict):
    pass


Pair = collections.namedtuple("Pair", "a b")
copyreg.add_extension(__name__, "Plain", 240)


def _values(tmp_path):
    return {
        "reduce": Runs(tmp_path / "ran"),
        "class": Plain,
        "object": Plain(),
        "subclass": Slots(a=1),
        "namedtuple": Pair(1, 2),
        "function": os.system,
        "builtin": eval,
        "array": np.zeros(3),
        "numpy string": np.array(["a red ring"]),
        "numpy number": np.float32(1),
        "tensor": torch.zeros(2),
        "date": datetime.date(2026, 1, 1),
        "set": {1, 2},
        "frozenset": frozenset({1}),
        "complex": 1j,
        "bytearray out of band": bytearray(b"a"),
        "exception": ValueError("a"),
        "range": range(3),
        "module": pickle.Pickler,
        "type": type(None),
        "ellipsis": ...,
    }


@pytest.mark.parametrize("protocol", range(6))
def test_no_class_and_no_function_is_known(tmp_path, protocol):
    for name, value in _values(tmp_path).items():
        for around in (value, {"images": [value]}, [(1, {"a": value})]):
            data = pickle.dumps(around, protocol)
            if name == "bytearray out of band" and protocol == 5:
                loads(data)  # its own instruction: plain bytes
                continue
            with pytest.raises(NotPlainError, match="could run code|damaged|nesting"):
                loads(data)
    assert not (tmp_path / "ran").exists()
    if protocol == 2:  # that it would have run
        pickle.loads(pickle.dumps(Runs(tmp_path / "ran")))
        assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x02cos\nsystem\n)\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.",  # NEWOBJ_EX
        b"\x80\x02}}b.",  # BUILD
        b"\x80\x02\x82\xf0.",  # EXT1: an extension that this very test registered
        b"P1\n.",  # PERSID
        b"K\x01Q.",  # BINPERSID
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x05K\x01\x98.",  # READONLY_BUFFER
        b"\x80\x04\x8f.",  # EMPTY_SET
        b"S'text'\n.",  # STRING of Python 2
    ],
)
def test_every_instruction_beyond_plain_data_is_refused(data):
    with pytest.raises(NotPlainError):
        loads(data)


def test_nothing_of_the_standard_librarys_machine_is_used(monkeypatch):
    class Unpickler:
        def __init__(self, *_):
            raise AssertionError("Python's own machine was asked")

    data = pickle.dumps({"a": 1})
    for name in ("loads", "load", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, Unpickler)
    assert loads(data) == {"a": 1}


def _doubled(times):
    return b"2\x86" * times


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",  # deep lists
        b"\x80\x04" + b")" + b"\x85" * 100_000 + b".",  # deep tuples
        b"\x80\x04}" + b")" + b"\x85" * 100_000 + b"K\x01s.",  # deep tuple as a key
        b"\x80\x04})" + _doubled(60) + b"K\x01s.",  # a key of 2^60 parts
        b"\x80\x04)" + _doubled(60) + b".",  # a value of 2^60 parts
        b"\x80\x04]2a.",  # a list in itself
        b"\x80\x04K\x01r\xff\xff\xff\xff" + b"j\x00\x00\x00\x00.",  # a memo of 2^32 places
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f" + b"a.",  # bytes of 2^63
        b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f" + b"a.",  # a bytearray of 2^60
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f" + b"N",  # a frame of 2^63
        b"\x80\x04" + b"N0" * 150_000 + b"N.",  # instructions without end
        b"I" + b"9" * 100_000 + b"\n.",  # a number that takes long to read
        b"L" + b"9" * 100_000 + b"L\n.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # LONG4 of 2^31 bytes
        b"", b".", b"0", b"e.", b"\x80", b"\x80\x04", b"(.", b"N", b"NN.", b"K\x01\x85\x85", b"(K\x01u.", b"}(K\x01u.",
        b"Na.", b"]", b"h\x00.", b"\xff", b"(((((t.",
    ],
)  # fmt: skip
def test_bombs_and_damage_are_refused_at_once(data):
    with pytest.raises(NotPlainError):
        loads(data)


def test_deep_data_is_refused_and_flat_data_may_be_large():
    value = []
    for _ in range(15):
        value = [value]
    assert loads(pickle.dumps(value)) == value
    with pytest.raises(NotPlainError, match="16 levels"):
        loads(pickle.dumps([value]))
    rows = [{"prompt": str(i), "tag": "x"} for i in range(10_000)]
    assert loads(pickle.dumps(rows)) == rows


def test_cut_and_changed_bytes_are_refused_or_plain(tmp_path):
    value = {"images": [b"\xff\xd8" * 20, Runs(tmp_path / "ran")], "prompts": ["a"], "m": {"n": [1.5, None]}}
    data = pickle.dumps(value)
    draw = random.Random(0)
    codes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    for cut in range(len(data)):
        with pytest.raises(NotPlainError):
            loads(data[:cut])
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(changed))
            changed[at : at + draw.choice((0, 1, 1, 1))] = draw.choice([*codes, bytes([draw.randrange(256)])])
        try:
            loads(bytes(changed))
        except NotPlainError:
            pass
    assert not (tmp_path / "ran").exists() and sys.getrecursionlimit() >= 1000
