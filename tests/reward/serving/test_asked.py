import base64

import pytest
import torch
from PIL import Image

from reward.images.preprocess import to_tensors
from reward.serving.asked import checked, count_pixels, decode, from_base64, read_json
from reward.serving.limits import Limits, Refused
from tests.reward.serving.conftest import encoded


def test_pictures_are_read_as_the_reward_reads_their_files(tmp_path, images):
    pictures = {
        "png": encoded(images[0]), "jpeg": encoded(images[1], "JPEG"), "webp": encoded(images[2], "WEBP"),
        "alpha": encoded(Image.new("RGBA", (8, 9), (255, 0, 0, 80))), "grey": encoded(Image.new("L", (5, 4), 7)),
        "deep": encoded(Image.new("I;16", (4, 4), 30000)),
    }  # fmt: skip
    asked = checked(list(pictures.values()), "a red circle", Limits())
    assert count_pixels(asked, Limits()) == 3 * 24 * 24 + 72 + 20 + 16
    found = decode(asked)
    for (name, data), tensor in zip(pictures.items(), found, strict=True):
        path = tmp_path / f"{name}.file"
        path.write_bytes(data)
        local = to_tensors(path, keep_bytes=True)[0]
        assert torch.equal(tensor, local) and tensor.dtype == local.dtype


def test_pixels_are_counted_before_anything_is_unpacked(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("unpacked"))
    asked = checked([encoded(Image.new("RGB", (8, 9)))] * 3, "a", Limits())
    assert count_pixels(asked, Limits()) == 216
    with pytest.raises(Refused, match="at most 71 pixels but picture 0 is 8 x 9"):
        count_pixels(asked, Limits(pixels=71))
    with pytest.raises(Refused, match="at most 215 pixels in a request but got 216"):
        count_pixels(asked, Limits(request_pixels=215))


def test_prompts_one_for_all_or_one_each():
    assert checked([b"1", b"2"], "a", Limits()).prompts == ("a", "a")
    assert checked([b"1", b"2"], ("a", "b"), Limits()).prompts == ("a", "b")
    with pytest.raises(Refused, match="2 pictures and 1 prompts"):
        checked([b"1", b"2"], ["a"], Limits())


def test_errors_say_where():
    with pytest.raises(Refused, match=r"images\[1\] to be base64 .*URLs are not fetched"):
        from_base64([base64.b64encode(b"a").decode(), "https://a.b/c.png"], "images")
    with pytest.raises(Refused, match="'images' to be a list of base64 strings but got a str"):
        from_base64("abcd", "images")
    with pytest.raises(Refused, match="but got a list of int"):
        checked([b"a"], [1], Limits())
    with pytest.raises(Refused, match="JSON object but got a list"):
        read_json(b"[]")
    asked = checked([encoded(Image.new("RGB", (8, 9))), b"no picture"], "a", Limits())
    with pytest.raises(Refused, match="Picture 1: Expected a readable image file") as refused:
        count_pixels(asked, Limits())
    with pytest.raises(Refused, match="Picture 1: Expected a readable image file"):
        decode(asked)
    assert "/" not in refused.value.message.replace("image/", ""), "no path of the server"
