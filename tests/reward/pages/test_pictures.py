import base64
import io

import numpy as np
import pytest
from PIL import Image

from reward.pages.pictures import embed_picture


def read_back(shown):
    kind, _, data = shown.source.partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_tiny_picture_keeps_every_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = embed_picture(tmp_path / "a.png", 384)
    kind, picture = read_back(shown)
    assert shown.is_tiny and kind == "data:image/png"
    np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_a_large_picture_is_reduced(tmp_path):
    Image.new("RGB", (800, 400), "red").save(tmp_path / "a.png")
    shown = embed_picture(tmp_path / "a.png", 200)
    kind, picture = read_back(shown)
    assert not shown.is_tiny and kind == "data:image/jpeg" and picture.size == (200, 100)


def test_a_transparent_picture_lies_on_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_back(embed_picture(tmp_path / "a.png", 200))[1].getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("content", [None, b"no picture", b""])
def test_what_is_no_picture_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert embed_picture(tmp_path / "a.png", 200) is None
