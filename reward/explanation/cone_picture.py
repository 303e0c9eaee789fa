"""An explanation as a picture: the cone in its plane, the image, where it was looked at, and the phrases."""

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reward.explanation.poincare_plane import ConePlane
from reward.files.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reward.explanation.explanation import Explanation

_CONE, _TEXT, _IMAGE, _INK, _FAINT = "#f2c14e", "#b3541e", "#1f5f8b", "#222222", "#9a9a9a"
_GOOD, _BAD = "#5b8c5a", "#c0392b"


def draw(explanation: "Explanation", path: str | os.PathLike) -> Path:
    """Write the picture of an explanation, whole or not at all; the suffix (.png, .svg, .pdf) says how.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: a suffix that matplotlib does not write.

    Example:
        >>> draw(explain(reward, "ring.png", "a red ring"), "explain.png")  # doctest: +SKIP
    """
    figure = new_figure(11.5, 6.6)
    grid = figure.add_gridspec(2, 3, width_ratios=(1.75, 1, 1), height_ratios=(1, 1.05), wspace=0.12, hspace=0.2)
    draw_plane(figure.add_subplot(grid[:, 0]), explanation.plane)
    picture, overlay = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[0, 2])
    _show(picture, explanation.image, f"score {explanation.output.score:.2f}")
    _show(overlay, _faded(explanation.image), "what moves the score")
    # the root shows the weaker places too; where nothing matters the picture stays visible
    strength = np.sqrt(explanation.saliency)
    overlay.imshow(strength, cmap="inferno", alpha=0.85 * strength, interpolation="bilinear")
    _draw_phrases(figure.add_subplot(grid[1, 1:]), explanation)
    figure.suptitle("\n".join(textwrap.wrap(f"“{explanation.prompt}”", 90)), fontsize=13, color=_INK)
    return save_figure(figure, Path(path))


def draw_plane(axes: "Axes", plane: ConePlane, names: tuple[str, str] = ("text", "image")) -> None:
    """Draw the Poincare disc with the text's cone, the image, the way to it and both angles."""
    from matplotlib.patches import Circle, Polygon

    axes.add_patch(Circle((0, 0), 1, facecolor="#f7f5f0", edgecolor=_INK, linewidth=1.2))
    axes.add_patch(Polygon(plane.cone_outline(), facecolor=_CONE, alpha=0.45, edgecolor="none"))
    for sign in (1, -1):
        edge = plane.ray(plane.half_aperture) * [1, sign]
        axes.plot(*edge.T, color=_TEXT, linewidth=1.4)
    axis = plane.ray(0.0)
    axes.plot([0, plane.text[0]], [0, 0], color=_FAINT, linewidth=1)
    axes.plot(*axis.T, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot([0, plane.image[0]], [0, plane.image[1]], color=_FAINT, linewidth=1)
    axes.plot(*plane.geodesic_to_image().T, color=_IMAGE, linewidth=1.8)
    phi, _ = plane.exterior_angle_and_distance()
    delta = plane.half_aperture
    _draw_angle(axes, plane.text, phi, 0.14, _IMAGE, "φ")
    _draw_angle(axes, plane.text, -delta, 0.24, _TEXT, "δ")
    # the numbers stand below the disc, where no line runs
    for x, side, label, angle, colour in ((-0.05, "right", "φ", phi, _IMAGE), (0.05, "left", "δ", delta, _TEXT)):
        axes.text(x, -1.06, f"{label} = {np.degrees(angle):.0f}°", color=colour, fontsize=11, ha=side, va="top")
    for point, colour, name, side, align in (
        ((0.0, 0.0), _INK, "origin", (-8, -4), "right"),
        (plane.text, _TEXT, names[0], (-1, -19), "center"),
        (plane.image, _IMAGE, names[1], *_beside(plane.image)),
    ):
        axes.plot(*point, "o", color=colour, markersize=7, markeredgecolor="white", zorder=5)
        note = {"color": colour, "fontsize": 11, "ha": align, "path_effects": _halo(), "zorder": 6}
        axes.annotate(name, point, xytext=side, textcoords="offset points", **note)
    verdict = "inside the cone" if phi <= plane.half_aperture else "outside the cone"
    by = np.degrees(abs(plane.half_aperture - phi))
    axes.set_title(f"{verdict}, by {by:.0f}°", fontsize=12, color=_INK)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
    axes.axis("off")


def new_figure(width: float, height: float) -> "Figure":
    """A figure that no window and no global state of matplotlib knows."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Expected matplotlib, which draws the picture, but it is not installed: pip install 'hyperalign[plot]'"
        ) from error
    return Figure(figsize=(width, height), facecolor="white")


def save_figure(figure: "Figure", path: Path) -> Path:
    """Write a figure whole or not at all; returns `path`."""
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lower().lstrip(".")
    if kind not in kinds:
        raise ValueError(f"Expected a picture's path to end in one of .{', .'.join(sorted(kinds))} but got {path}")
    return write_whole(
        path, lambda file: figure.savefig(file, format=kind, dpi=110, bbox_inches="tight", pad_inches=0.15)
    )


def _draw_angle(axes: "Axes", at: np.ndarray, angle: float, radius: float, colour: str, symbol: str) -> None:
    """An arc from the outward axis; true in the disc, which keeps angles."""
    turn = np.linspace(0, angle, 60)
    axes.plot(at[0] + radius * np.cos(turn), at[1] + radius * np.sin(turn), color=colour, linewidth=1.2)
    # within the angle, or beside it where it is too narrow for a letter
    middle = angle / 2 if abs(angle) > 0.5 else angle + np.copysign(0.35, angle)
    x, y = at[0] + (radius + 0.07) * np.cos(middle), at[1] + (radius + 0.07) * np.sin(middle)
    axes.text(x, y, symbol, color=colour, fontsize=11, ha="center", va="center", path_effects=_halo())


def _beside(point: np.ndarray) -> tuple[tuple[int, int], str]:
    """Offset in points and alignment of a point's name: above it, or to the side that is not the rim's."""
    if np.hypot(*point) < 0.7:
        return (0, 8), "center"
    return ((-8, 3), "right") if point[0] > 0.35 else ((9, -4), "left")


def _halo() -> list:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="#ffffffcc")]


def _show(axes: "Axes", image: np.ndarray, title: str) -> None:
    axes.imshow(image, interpolation="nearest" if max(image.shape) < 128 else "antialiased")
    axes.set_title(title, fontsize=11, color=_INK)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(_FAINT)


def _faded(image: np.ndarray) -> np.ndarray:
    """Grey, so that the overlay's colours are not the picture's."""
    return np.repeat(0.35 + 0.55 * image.mean(-1, keepdims=True), 3, -1)


def _draw_phrases(axes: "Axes", explanation: "Explanation") -> None:
    """A bar for each phrase: the score with its own words less the score with the best others."""
    phrases = [phrase for phrase in explanation.phrases.phrases if phrase.margin is not None]
    axes.set_title("each phrase's words against the best swap", fontsize=11, color=_INK)
    axes.set_xlabel("score(prompt) − score(best swap); grey: swaps differ by as much anyhow", fontsize=9, color=_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_yticks([])
    if not phrases:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "no phrase has words to swap", transform=axes.transAxes, ha="center", color=_FAINT)
        return
    reach = max(abs(p.margin) for p in phrases) or 1.0
    noise = min(explanation.phrases.noise, 1.2 * reach)
    axes.axvspan(-noise, 0, color="#eeeeee", zorder=0)
    for row, phrase in enumerate(phrases):
        worst = phrase is explanation.phrases.worst and explanation.phrases.clearly_wrong
        axes.barh(row, phrase.margin, color=_BAD if worst else _GOOD if phrase.margin >= 0 else _FAINT, height=0.32)
        swap = f"  ({phrase.best_swap.old} → {phrase.best_swap.new})" if phrase.best_swap else "  (left out)"
        text = textwrap.shorten(phrase.text, 40, placeholder="…") + swap
        axes.text(-1.25 * reach, row - 0.3, text, fontsize=10, color=_BAD if worst else _INK, va="center")
    axes.axvline(0, color=_INK, linewidth=1)
    axes.set(xlim=(-1.25 * reach, 1.25 * reach), ylim=(len(phrases) - 0.5, -0.75))
    axes.tick_params(labelsize=9)
