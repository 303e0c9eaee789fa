"""The frame of a chart: round ticks, and where a point lies on the drawing. `templates/chart.svg` draws it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

LARGEST = 1e100  # larger numbers cannot be added and squared, so they are not drawn
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 50, 42  # margins around the plot, in pixels


@dataclass(frozen=True)
class Tick:
    """A number on an axis and its place in pixels."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """One line as the points of SVG polylines, "x,y x,y ..."; None: not drawn.

    Attributes:
        label: for the legend.
        points: the line itself.
        raw: what the line smooths.
        band: outline of the band around it.
        dots: (x, y) of dots on it.
    """

    label: str
    points: str
    raw: str | None = None
    band: str | None = None
    dots: Sequence[tuple[str, str]] = ()


@dataclass
class Chart:
    """A chart whose axes run from the first to the last tick; places are in pixels from the upper left corner."""

    title: str
    x_label: str
    y_label: str
    x_range: np.ndarray
    y_range: np.ndarray
    width: int = 520
    height: int = 270
    curves: list[Curve] = field(default_factory=list)
    cloud: list[tuple[str, str]] = field(default_factory=list)
    markers: list[Tick] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Left end of the plot."""
        return _LEFT

    @property
    def right(self) -> int:
        """Right end of the plot."""
        return self.width - _RIGHT

    @property
    def top(self) -> int:
        """Upper end of the plot."""
        return _TOP

    @property
    def bottom(self) -> int:
        """Lower end of the plot, where the x axis is."""
        return self.height - _BOTTOM

    @property
    def x_ticks(self) -> list[Tick]:
        """Ticks from left to right."""
        return _ticks(self.x_range, self.across(self.x_range))

    @property
    def y_ticks(self) -> list[Tick]:
        """Ticks from the bottom to the top."""
        return _ticks(self.y_range, self.down(self.y_range))

    @property
    def legend(self) -> list[Tick]:
        """Where each curve's label begins, right-aligned; empty where one curve needs none."""
        entries, at = [], self.right
        for curve in reversed(self.curves) if len(self.curves) > 1 else ():
            at -= 7 * len(curve.label) + 30
            entries.append(Tick(at, curve.label))
        return entries[::-1]

    def across(self, x: np.ndarray) -> np.ndarray:
        """Values of x in pixels."""
        return self.left + (x - self.x_range[0]) / (self.x_range[-1] - self.x_range[0]) * (self.right - self.left)

    def down(self, y: np.ndarray) -> np.ndarray:
        """Values of y in pixels."""
        return self.bottom - (y - self.y_range[0]) / (self.y_range[-1] - self.y_range[0]) * (self.bottom - self.top)

    def places(self, x: np.ndarray, y: np.ndarray) -> list[tuple[str, str]]:
        """Points in pixels, to a tenth."""
        return [(f"{a:.1f}", f"{d:.1f}") for a, d in zip(self.across(x), self.down(y), strict=True)]


def nice_ticks(low: float, high: float, *, whole: bool = False, about: int = 5) -> np.ndarray:
    """Evenly spaced round numbers (1, 2 or 5 times a power of ten) that enclose low and high; at least two."""
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-12):
        margin = max(1.0 if whole else 0.5 * abs(low) or 0.5, 1e-9 * abs(low))
        low, high = low - margin, high + margin
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.arange(first, max(last, first + 1) + 1) * step


def _ticks(values: np.ndarray, places: np.ndarray) -> list[Tick]:
    return [Tick(round(float(at), 1), text) for at, text in zip(places, _texts(values), strict=True)]


def _texts(values: np.ndarray) -> list[str]:
    """Ticks in words, with the same number of decimals each: 0.60 beside 0.62."""
    texts = [f"{value:.6g}" for value in values]
    if not any("e" in text for text in texts):
        decimals = max(len(text.partition(".")[2]) for text in texts)
        texts = [f"{value:.{decimals}f}" for value in values]
    return [text.removeprefix("-") if float(text) == 0 else text.replace("-", "−") for text in texts]
