"""Draws the pictures of docs/geometry.md, from the shipped tiny-world reward: python docs/geometry_pictures.py"""

import math
import sys
from pathlib import Path

import numpy as np
import torch

# A script's own folder comes first on the path, not the one that holds the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reward import HyperAlignReward  # noqa: E402
from reward.explanation.cone_picture import draw, draw_plane, new_figure, save_figure  # noqa: E402
from reward.explanation.explain import explain  # noqa: E402
from reward.explanation.poincare_plane import ConePlane  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.scenes import Kind, SceneObject, render  # noqa: E402

IMAGES = Path(__file__).with_name("images")
MIN_RADIUS = 0.1
PROMPT = "a red ring left of a blue square"


def main() -> None:
    """Draw all four."""
    torch.set_num_threads(1)
    reward = HyperAlignReward.from_pretrained(weights_path("hyperalign"))
    draw_space(IMAGES / "geometry-space.png")
    draw_inside_and_outside(IMAGES / "geometry-cone.png")
    draw_tiny_world(reward, IMAGES / "geometry-tiny-world.png")
    draw(explain(reward, scene("red ring", "blue square"), "a red ring left of a green square"),
         IMAGES / "geometry-explain.png")  # fmt: skip


def draw_space(path: Path) -> None:
    """Equal steps that look shorter and shorter; cones that narrow with the distance from the origin."""
    figure = new_figure(9, 4.7)
    steps, cones = figure.subplots(1, 2)
    for axes, title in ((steps, "rings one unit apart, and shortest ways"), (cones, "the further out, the narrower")):
        _empty_disc(axes, title)
    turn = np.linspace(0, 2 * math.pi, 200)
    steps.plot(0, 0, "o", color="#222222", markersize=5)
    for radius in range(1, 6):
        size = math.tanh(radius / 2)
        steps.plot(size * np.cos(turn), size * np.sin(turn), color="#9a9a9a", linewidth=1)
    for radius in range(1, 3):
        steps.annotate(str(radius), (0, -math.tanh(radius / 2)), xytext=(0, 3), textcoords="offset points", ha="center")
    for radius, between, across in ((2.5, 1.9, 0.3), (2.5, 0.9, 2.5), (3.5, 0.6, 5.0)):
        way = ConePlane(radius, radius, between, 0.5).geodesic_to_image()
        turned = way @ np.array([[math.cos(across), math.sin(across)], [-math.sin(across), math.cos(across)]])
        steps.plot(*turned.T, color="#1f5f8b", linewidth=1.8)
        steps.plot(*turned[[0, -1]].T, "o", color="#1f5f8b", markersize=5)
    for radius, across, label_at in (
        (0.35, 0.0, (0.64, 0.0)),
        (0.8, 2.2, (0.05, 0.52)),
        (1.6, 4.2, (0.06, -0.55)),
    ):
        plane = ConePlane(radius, 1, 1, math.asin(2 * MIN_RADIUS / math.sinh(radius)))
        spin = np.array([[math.cos(across), math.sin(across)], [-math.sin(across), math.cos(across)]])
        cones.fill(*(plane.cone_outline() @ spin).T, color="#f2c14e", alpha=0.45, linewidth=0)
        for sign in (1, -1):
            cones.plot(*(plane.ray(sign * plane.half_aperture) @ spin).T, color="#b3541e", linewidth=1.2)
        cones.plot(*(plane.text @ spin), "o", color="#b3541e", markersize=5)
        label = f"radius {radius}\n±{math.degrees(plane.half_aperture):.0f}°"
        cones.text(*label_at, label, fontsize=9, ha="center", va="center")
    cones.plot(0, 0, "o", color="#222222", markersize=5)
    save_figure(figure, path)


def draw_inside_and_outside(path: Path) -> None:
    """The same cone with an image in it and one beside it."""
    figure = new_figure(9, 4.7)
    for axes, between in zip(figure.subplots(1, 2), (0.09, 1.25), strict=True):
        draw_plane(axes, ConePlane(0.45, 1.6, between, math.asin(2 * MIN_RADIUS / math.sinh(0.45))))
    save_figure(figure, path)


def draw_tiny_world(reward: HyperAlignReward, path: Path) -> None:
    """One prompt and three pictures: right, one object wrong, both wrong; scores and planes of the shipped head."""
    figure = new_figure(11, 6.2)
    axes = figure.subplots(2, 3, height_ratios=(1, 2.1))
    shown = (("red ring", "blue square"), ("red ring", "green triangle"), ("yellow square", "green triangle"))
    for (above, below), kinds in zip(axes.T, shown, strict=True):
        explanation = explain(reward, scene(*kinds), PROMPT)
        above.imshow(explanation.image, interpolation="nearest")
        above.set(xticks=[], yticks=[])
        above.set_title(f"score {explanation.output.score:.2f}", fontsize=12)
        draw_plane(below, explanation.plane)
    figure.suptitle(f"“{PROMPT}”", fontsize=13)
    save_figure(figure, path)


def scene(left: str, right: str) -> torch.Tensor:
    """Two objects side by side, (3, 48, 48)."""
    objects = [SceneObject(Kind(*words.split()), x, 0.5, 0.14) for words, x in ((left, 0.26), (right, 0.74))]
    return torch.from_numpy(render(objects)).permute(2, 0, 1)


def _empty_disc(axes, title: str) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(Circle((0, 0), 1, facecolor="#f7f5f0", edgecolor="#222222", linewidth=1.2))
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
    axes.set_title(title, fontsize=12)
    axes.axis("off")


if __name__ == "__main__":
    main()
