"""The heat map lies where the tokens looked."""

import numpy as np
import pytest
import torch
from PIL import Image

from attention_refine.contrastive.heat_map import heat_map

HOT, COLD = [255, 0, 0], [0, 0, 96]


def pixels(*arguments, **options):
    return np.asarray(heat_map(*arguments, **options))


def test_the_hottest_token_is_red_where_it_lies():
    values = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.5, 0.0]])
    out = pixels(Image.new("RGB", (30, 20), "white"), values, opacity=1)
    assert (out[:10, 20:] == HOT).all()
    assert (out[:10, :20] == COLD).all() and (out[10:, :10] == COLD).all()
    assert (abs(out[10:, 10:20].astype(int) - [0, 200, 120]) <= 3).all()


def test_a_centre_crop_leaves_the_rest_alone():
    for size, inside in (((40, 20), np.s_[:, 10:30]), ((20, 40), np.s_[10:30, :])):
        out = pixels(Image.new("RGB", size, "white"), torch.ones(4, 4), center_crop=True, opacity=1)
        assert (out[inside] == COLD).all()
        out = out.copy()
        out[inside] = 255
        assert (out == 255).all()


def test_opacity_mixes_and_a_mask_and_a_grey_picture_will_do():
    out = pixels(Image.new("L", (4, 4), 100), torch.tensor([[True, False]]), opacity=0.5)
    assert out[0, 0].tolist() == [178, 50, 50] and out[0, 3].tolist() == [50, 50, 98]
    assert (pixels(Image.new("L", (4, 4), 100), torch.zeros(2, 2), opacity=0) == 100).all()


def test_refused():
    picture = Image.new("RGB", (4, 4))
    with pytest.raises(ValueError, match=r"a \(rows, columns\) map, got shape \(16,\)"):
        heat_map(picture, torch.zeros(16))
    with pytest.raises(ValueError, match=r"opacity in \[0, 1\], got 2"):
        heat_map(picture, torch.zeros(2, 2), opacity=2)
