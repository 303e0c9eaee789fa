import io

import numpy as np
import pytest
import torch
from PIL import Image

from reward.images.preprocess import to_tensors
from reward.images.reading import read_image, read_numpy_batch

RAMP = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


def test_greyscale_is_repeated(tmp_path):
    expected = torch.from_numpy(RAMP / 255).float().expand(3, 3, 4)
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    for image in (Image.fromarray(RAMP), RAMP, RAMP[..., None], tmp_path / "grey.png"):
        torch.testing.assert_close(read_image(image), expected)


def test_one_bit():
    image = Image.fromarray(RAMP > 100)
    assert image.mode == "1"
    assert torch.equal(read_image(image)[0], torch.from_numpy(RAMP > 100).float())


def test_transparency_is_composited_on_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (255, 0, 0, 255)
    rgba[0, 1] = (255, 0, 0, 0)
    rgba[1, 0] = (0, 0, 0, 102)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    for image in (rgba, Image.fromarray(rgba), tmp_path / "rgba.png", rgba.astype(np.float32) / 255):
        pixels = read_image(image)
        torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
        torch.testing.assert_close(pixels[:, 0, 1], torch.ones(3))
        torch.testing.assert_close(pixels[:, 1, 0], torch.full((3,), 0.6))


def test_grey_with_alpha():
    image = Image.fromarray(np.dstack([RAMP, np.zeros_like(RAMP)]), mode=None)
    assert image.mode == "LA"
    assert torch.equal(read_image(image), torch.ones(3, 3, 4))


@pytest.mark.parametrize("transparent", [False, True])
def test_palette(tmp_path, transparent):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    options = {"transparency": 0} if transparent else {}
    image.save(tmp_path / "palette.png", **options)
    pixels = read_image(tmp_path / "palette.png")
    assert pixels[:, 0, 0].tolist() == ([1, 1, 1] if transparent else [1, 0, 0])
    assert pixels[:, 0, 1].tolist() == [0, 0, 1]


def test_sixteen_bit(tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    expected = torch.from_numpy(RAMP / 255).float().expand(3, 3, 4)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tiff")
    wide = Image.fromarray(deep.astype(np.int32))
    assert wide.mode == "I" and Image.open(tmp_path / "deep.png").mode.startswith("I")
    colour = np.dstack([deep] * 3)
    for image in (deep, Image.fromarray(deep), wide, tmp_path / "deep.png", tmp_path / "deep.tiff", colour):
        torch.testing.assert_close(read_image(image), expected)


def test_float_image():
    unit = (RAMP / 255).astype(np.float32)
    assert torch.equal(read_image(Image.fromarray(unit))[1], torch.from_numpy(unit))
    with pytest.raises(ValueError, match=r"Expected pixel values in \[0, 1\]"):
        to_tensors(Image.fromarray(unit * 300))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB"])
def test_other_colour_spaces_become_rgb(mode):
    red = Image.new("RGB", (2, 2), (200, 30, 30))
    converted = red.convert("RGB").convert(mode) if mode != "LAB" else Image.new("LAB", (2, 2), (128, 128, 128))
    expected = torch.from_numpy(np.array(converted.convert("RGB"))).permute(2, 0, 1) / 255
    torch.testing.assert_close(read_image(converted), expected)


@pytest.mark.parametrize("orientation, corner", [(1, (0, 0)), (3, (1, 2)), (6, (0, 1)), (8, (2, 0))])
def test_exif_rotation_is_applied(tmp_path, orientation, corner):
    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "rotated.png", exif=exif)
    pixels = read_image(tmp_path / "rotated.png")
    assert tuple(pixels.shape[1:]) == ((3, 2) if orientation in (6, 8) else (2, 3))
    assert pixels[0][corner] == 1 and pixels.sum() == 3


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="Expected an image file but there is none at .*gone.png"):
        read_image(tmp_path / "gone.png")


def test_bytes_open_files_and_mappings_of_datasets(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    content, whole = (tmp_path / "a.png").read_bytes(), read_image(tmp_path / "a.png")
    for given in (
        content, bytearray(content), memoryview(content), io.BytesIO(content), {"bytes": content, "path": None},
        {"bytes": None, "path": str(tmp_path / "a.png")}, {"bytes": content, "path": "elsewhere.png"},
    ):  # fmt: skip
        assert torch.equal(read_image(given), whole)
    with (tmp_path / "a.png").open("rb") as file:
        assert torch.equal(read_image(file), whole)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (b"no picture", ValueError, "could not read the given bytes"),
        (io.BytesIO(b"no picture"), ValueError, "could not read the open file"),
        (io.StringIO("text"), TypeError, "in binary mode but the open file gives str; open it 'rb'"),
        ({"bytes": None, "path": None}, ValueError, "with bytes or path but got the keys bytes, path"),
        ({}, ValueError, "but got the keys none"),
    ],
)
def test_what_holds_no_picture(given, error, message):
    with pytest.raises(error, match=message):
        read_image(given)


def test_channels_first_where_it_cannot_be_meant_otherwise():
    array = np.random.default_rng(0).integers(0, 256, (3, 8, 9), dtype=np.uint8)
    assert torch.equal(read_image(array), read_image(array.transpose(1, 2, 0)))
    batch = np.stack([array, array])
    assert torch.equal(read_numpy_batch(batch), read_numpy_batch(batch.transpose(0, 2, 3, 1)))
    # three rows of three columns and three channels: rows first, as numpy's pictures are
    square = np.random.default_rng(0).random((3, 8, 3))
    assert read_image(square).shape == (3, 3, 8)


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_an_unreadable_file(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match="Expected a readable image file but could not read .*bad.png"):
        read_image(tmp_path / "bad.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_file(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"cut.{suffix}")
    whole = (tmp_path / f"cut.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="Expected a readable image file but could not read"):
        read_image(tmp_path / f"cut.{suffix}")


def test_a_folder_is_not_an_image(tmp_path):
    with pytest.raises(ValueError, match="Expected a readable image file but could not read"):
        read_image(tmp_path)


def test_a_decompression_bomb(tmp_path, monkeypatch):
    Image.new("RGB", (30, 30)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="at most 100 pixels, 65535 on a side, but .*bomb.png is larger"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    "array, error, message",
    [
        (np.zeros((2, 8, 8), np.uint8), ValueError, r"with 1, 3 or 4 channels C but got \(2, 8, 8\)"),
        (np.zeros((8, 8, 2), np.uint8), ValueError, r"Expected a numpy image of shape .* but got \(8, 8, 2\)"),
        (np.zeros(8, np.uint8), ValueError, r"but got \(8,\)"),
        (np.zeros((8, 8, 3), np.int64), TypeError, "of dtype uint8, uint16 or float .* but got int64"),
        (np.zeros((8, 8), bool), TypeError, "but got bool"),
    ],
)
def test_bad_arrays(array, error, message):
    with pytest.raises(error, match=message):
        read_image(array)


def test_bad_32_bit_values():
    image = Image.fromarray(np.array([[70000, 0]], np.int32))
    with pytest.raises(ValueError, match=r"Expected 16-bit values 0..65535 in a mode I image but got 0..70000"):
        read_image(image)
