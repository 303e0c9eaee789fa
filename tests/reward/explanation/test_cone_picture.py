import builtins

import pytest
from PIL import Image

from reward.explanation.cone_picture import draw_plane, new_figure
from reward.explanation.explain import draw, explain
from reward.explanation.poincare_plane import ConePlane


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_writes_the_kind_that_the_suffix_says(reward, images, tmp_path, suffix):
    path = draw(explain(reward, images[0], "a red circle left of a blue square"), tmp_path / "new" / f"why.{suffix}")
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[suffix])
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_long_prompts_and_prompts_without_margins_are_drawn(reward, images, tmp_path):
    for name, prompt in (("long", "a red circle and a photo, " * 12), ("bare", "a")):
        found = explain(reward, images[0], prompt)
        assert Image.open(draw(found, tmp_path / f"{name}.png")).width < 2000


def test_an_unknown_suffix_is_refused(reward, images, tmp_path):
    with pytest.raises(ValueError, match="end in one of .*png"):
        draw(explain(reward, images[0], "a photo"), tmp_path / "why.docx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("image_angle", [0.1, 1.5])
def test_the_title_says_where_the_image_is(image_angle):
    axes = new_figure(4, 4).add_subplot()
    draw_plane(axes, ConePlane(0.5, 1.5, image_angle, 0.4))
    assert axes.get_title().startswith("inside" if image_angle < 1 else "outside")


def test_without_matplotlib_the_error_names_the_extra(reward, images, tmp_path, monkeypatch):
    found = explain(reward, images[0], "a photo")
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"hyperalign\[plot\]"):
        draw(found, tmp_path / "why.png")
