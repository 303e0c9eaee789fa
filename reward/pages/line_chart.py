"""A line chart for a page: raw points, a moving mean over them and a band around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reward.pages.chart import LARGEST, Chart, Curve, Tick, nice_ticks

_MOST_DOTS = 25  # a line with more points is drawn without dots


@dataclass(frozen=True)
class Line:
    """One line of a chart: points (x, y), drawn as they are or, when `smooth`, as moving mean over faint raw points.

    `spread`, as long as y, is drawn as a band y ± spread; a smoothed line without one gets its moving deviation.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    smooth: bool = True


@dataclass(frozen=True)
class _Drawn:
    """What is drawn of a line, equally long: x, the raw y, the smoothed y, and the band's edges."""

    x: np.ndarray
    raw: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    width: int = 520,
    height: int = 270,
    markers: Sequence[tuple[float, str]] = (),
    whole_x: bool = True,
) -> Chart:
    """Place the lines of a chart; the page colours them by their order.

    Args:
        lines: at least one with a finite point; points that are not finite are left out.
        title, x_label, y_label: texts.
        width, height: in pixels.
        markers: upright lines, (x within the points, text).
        whole_x: ticks in x are whole numbers.

    Raises:
        ValueError: no line has a finite point.
    """
    drawn = [_drawn(line) for line in lines]
    x = np.concatenate([line.x for line in drawn])
    if not len(x):
        raise ValueError(f"Expected at least one finite point in the chart {title!r}, got none.")
    y = np.concatenate([values for line in drawn for values in (line.raw, line.low, line.high)])
    x_range = nice_ticks(x.min(), x.max(), whole=whole_x, about=max(2, width // 100))
    chart = Chart(title, x_label, y_label, x_range, nice_ticks(y.min(), y.max(), about=max(2, height // 50)))
    chart.width, chart.height = width, height
    chart.markers = [Tick(round(float(chart.across(np.float64(at))), 1), text) for at, text in markers]
    chart.curves = [_curve(chart, line.label, found) for line, found in zip(lines, drawn, strict=True)]
    return chart


def _curve(chart: Chart, label: str, line: _Drawn) -> Curve:
    def joined(x: np.ndarray, y: np.ndarray) -> str:
        return " ".join(map(",".join, chart.places(x, y)))

    outline = np.concatenate([line.x, line.x[::-1]]), np.concatenate([line.high, line.low[::-1]])
    return Curve(
        label,
        joined(line.x, line.middle),
        raw=None if np.array_equal(line.raw, line.middle) else joined(line.x, line.raw),
        band=joined(*outline) if (line.high > line.low).any() else None,
        dots=chart.places(line.x, line.middle) if len(line.x) <= _MOST_DOTS else (),
    )


def _drawn(line: Line) -> _Drawn:
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    spread = np.zeros_like(y) if line.spread is None else _spread(line.spread)
    keep = (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST)
    x, y, spread = x[keep], y[keep], spread[keep]
    # A twentieth of the run on either side: long enough to see a trend under batch noise, short enough for bends.
    half = len(y) // 20 if line.smooth else 0
    if half == 0:
        return _Drawn(x, y, y, y - spread, y + spread)
    windows = [slice(max(0, i - half), i + half + 1) for i in range(len(y))]
    middle = np.array([y[window].mean() for window in windows])
    if line.spread is None:
        band = np.array([(y[window] - middle[i]).std() for i, window in enumerate(windows)])
    else:
        band = np.array([spread[window].mean() for window in windows])
    return _Drawn(x, y, middle, middle - band, middle + band)


def _spread(values: Sequence[float]) -> np.ndarray:
    spread = np.nan_to_num(np.asarray(values, float), posinf=0.0, neginf=0.0)
    return np.where(np.abs(spread) < LARGEST, spread, 0.0)
