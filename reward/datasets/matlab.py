"""Numbers out of MATLAB files of version 5 to 7 (not 7.3), which a stranger may have written.

Our own reader of the one thing that published scores need: scipy's compiled one crashes the process on damaged files,
which no exception can report. Format: MathWorks, "MAT-File Format", levels 5.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# of an element, and the numbers that it holds
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)  # double, single and the integers; below are cells, structures, objects and text
_COMPLEX = 0x08
_MOST_BYTES = 2**23


def read_matlab_numbers(path: Path, variable: str) -> np.ndarray | None:
    """A real numeric matrix of a file in float64, with its shape; None where there is no such variable.

    Raises:
        ValueError: no MATLAB file of these versions, a damaged one, or more than 8 MB of one variable.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or content[:10] != b"MATLAB 5.0":
        raise ValueError(f"Expected a MATLAB file of version 5 to 7 but got {content[:10]!r} at its start")
    for kind, data in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            unpack = zlib.decompressobj()
            try:
                plain = unpack.decompress(data, _MOST_BYTES)
            except zlib.error as error:
                raise ValueError(f"Expected a MATLAB file but could not unpack it: {error}") from error
            if not unpack.eof:
                raise ValueError(f"Expected at most {_MOST_BYTES} bytes of a variable but got more, or an early end")
            kind, data = next(_elements(plain, order), (None, b""))
        if kind == _MATRIX and (numbers := _matrix(data, order, variable)) is not None:
            return numbers
    return None


def _matrix(data: bytes, order: str, variable: str) -> np.ndarray | None:
    """A matrix element's numbers, if it is the variable's and numeric."""
    parts = list(_elements(data, order))
    if len(parts) < 3:
        raise ValueError("Expected flags, size and name of a MATLAB variable but they are not there")
    (_, flags), (_, sizes), (_, name) = parts[:3]
    if name != variable.encode() or len(flags) < 4:
        return None
    word = struct.unpack(order + "I", flags[:4])[0]
    if word & 0xFF not in _NUMERIC_CLASSES or (word >> 8) & _COMPLEX or len(parts) < 4 or len(sizes) % 4:
        return None
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    kind, values = parts[3]
    dtype = np.dtype(order + _TYPES[kind]) if kind in _TYPES else None
    if dtype is None or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"Expected {shape} numbers of {variable} but got {len(values)} bytes of type {kind}")
    return np.frombuffer(values, dtype).astype(np.float64).reshape(shape, order="F")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, content) of the elements that stand one behind the other.

    Raises:
        ValueError: one is longer than what is left.
    """
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # a small one: type and size in one word, up to four bytes behind it
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError(f"Expected at most 4 bytes in a small element of a MATLAB file but it says {size}")
        else:
            start = at + 8
            # compressed ones are not padded
            end = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
            if start + size > len(data):
                raise ValueError(f"Expected {size} bytes of a MATLAB file's element but {len(data) - start} are left")
        yield kind, data[start : start + size]
        at = end
