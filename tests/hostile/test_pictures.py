"""Picture files that are bombs, documents, or damaged in ways that PIL reports by chance."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.fuzz.guard import guarded
from benchmarks.fuzz.pictures import hollow_png
from reward.images.preprocess import ImageTransform, to_tensors
from reward.images.reading import FORMATS, read_image

TRANSFORM = ImageTransform((48, 48), (0.5,) * 3, (0.3,) * 3)


@pytest.mark.parametrize("size", [(5_800, 5_800), (12_000, 12_000), (100_000, 100_000), (70_000, 1), (1, 70_000)])
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(hollow_png(*size))
    tracemalloc.start()
    with pytest.raises(ValueError, match="possible decompression bomb"):
        read_image(tmp_path / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_text_that_unpacks_to_gigabytes_is_refused(tmp_path):
    import zlib

    from benchmarks.fuzz.pictures import _chunk

    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    text = b"Comment\0\0" + zlib.compress(bytes(2 * 2**20))
    (tmp_path / "x.png").write_bytes(data[:33] + _chunk(b"zTXt", text) + data[33:])
    with pytest.raises(ValueError, match="could not read .*x.png"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (3, 5_000)])
def test_an_elongated_picture_is_cropped_before_it_is_enlarged(shape):
    images = torch.randint(0, 256, (1, 3, *shape), dtype=torch.uint8)
    assert TRANSFORM(images).shape == (1, 3, 48, 48)


def test_what_is_cropped_early_is_what_would_have_been_cropped_late():
    columns = torch.linspace(0, 1, 200).expand(1, 3, 4, 200).contiguous()
    whole = torch.nn.functional.interpolate(
        columns, size=(48, 2400), mode="bicubic", antialias=True, align_corners=False
    )
    assert torch.allclose(TRANSFORM.fit(columns), whole[..., 1176:1224], atol=1e-3)


def test_postscript_is_never_handed_to_an_interpreter(tmp_path):
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(%pipe%touch x) (w) file\nshowpage\n"
    (tmp_path / "picture.png").write_bytes(page)
    with guarded(tmp_path), pytest.raises(ValueError, match="could not read .*picture.png"):
        read_image(tmp_path / "picture.png")
    assert "EPS" not in FORMATS


@pytest.mark.parametrize("name", ["PCX", "TGA", "ICO", "PDF"])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path, name):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format=name)
    (tmp_path / "picture.png").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="could not read"):
        read_image(tmp_path / "picture.png")


@pytest.mark.parametrize(
    "data",
    [
        b"II*\x00\x08\x00\x00\x00\x01\x00\x00\x01\x03\x00\x01\x00\x00\x00",  # a TIFF of one tag, cut
        b"BM" + struct.pack("<IHHIIiiHHII", 54, 0, 0, 54, 40, 4, 4, 1, 24, 7, 0),  # BMP, unknown compression
        b"GIF89a" + bytes(7),
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        b"P6 4 4 99999999999999999999\n",
    ],
)
def test_damage_of_every_kind_is_a_value_error(tmp_path, data):
    (tmp_path / "picture.png").write_bytes(data)
    with pytest.raises(ValueError, match="picture.png"):
        to_tensors(tmp_path / "picture.png")


@pytest.mark.parametrize("name", ["a\0.png", "a\ud800.png", "x" * 5000 + ".png"])
def test_names_that_no_file_can_have(name):
    with pytest.raises(ValueError):
        read_image(name)


def test_transparency_is_composited_the_same_in_bands():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 300, 4), dtype=np.uint8)
    values = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    expected = values[:3] * values[3:] + (1 - values[3:])
    assert torch.equal(read_image(Image.fromarray(pixels)), expected)
