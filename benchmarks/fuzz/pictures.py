"""Fuzz target: picture files, through the reward's reading and preprocessing."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF")
_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK")


class Pictures:
    """Input: the first byte says how pixels are stored and whether to fix a PNG's checksums; the rest is the file."""

    allowed = (ValueError,)

    def __init__(self, folder: Path) -> None:
        from reward.images.preprocess import ImageTransform

        self.path = folder / "picture.png"
        constants = {"mean": (0.5,) * 3, "std": (0.3,) * 3}
        self.transforms = [
            ImageTransform((48, 48), resize_mode=mode, **constants) for mode in ("shortest", "longest", "squash")
        ]

    def seeds(self) -> list[bytes]:
        """A small picture in every format and mode that can be written."""
        noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        found = []
        for mode in _MODES:
            grey = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
            picture = grey if mode == "I;16" else Image.fromarray(noise).convert(mode)
            for name in _FORMATS:
                buffer = io.BytesIO()
                try:
                    picture.save(buffer, format=name)
                except (OSError, ValueError, KeyError):  # the format does not support the mode
                    continue
                found.append(bytes([len(found) % 8]) + buffer.getvalue())
        for size in ((1, 70_000), (60_000, 1), (20_000, 20_000), (5_700, 5_700)):
            found.append(b"\x04" + hollow_png(*size))
        return found

    def run(self, data: bytes) -> None:
        """Read the file, resize and normalise."""
        from reward.images.preprocess import to_tensors

        choice, content = (data[0], data[1:]) if data else (0, b"")
        if choice & 4:
            content = mend_png(content)
        self.path.write_bytes(content)
        images = to_tensors(self.path, keep_bytes=bool(choice & 1))
        model_input = self.transforms[choice % 3](images)
        if model_input.shape != (1, 3, 48, 48) or not model_input.isfinite().all():
            raise AssertionError(f"model input {tuple(model_input.shape)}")


def hollow_png(width: int, height: int, rows: int = 4) -> bytes:
    """A PNG whose header declares a size, but whose data has only a few rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(width + 1) * min(rows, height))
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)


def mend_png(data: bytes) -> bytes:
    """The same chunks with correct checksums, so that a reader decodes them; other files stay as they are."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    mended, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = min(struct.unpack(">I", data[at : at + 4])[0], len(data) - at - 12)
        mended.append(_chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(mended) + data[at:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
