"""A few pictures as the files that people have, and their pixels' mean redness to tell them apart."""

import io

import numpy as np
import pytest
from PIL import Image

PROMPTS = ["a red circle", 'a sign that says "open"; in red, or so', "naïve\u2028two", "a blue square", "three"]


def encoded(red, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), (red, 0, 0)).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path):
    """folder/sub/0.png ... 4.png, each redder than the one before."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(len(PROMPTS)):
        (folder / "sub" / f"{number}.png").write_bytes(encoded(50 * number))
    return folder


def redness(picture):
    """Mean red, 0..255, of anything that can be scored."""
    from reward.images.preprocess import to_tensors

    return round(float(np.asarray(to_tensors(picture)[0][0]).mean()) * 255)
