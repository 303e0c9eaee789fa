"""A line chart as inline SVG: ticks, axis labels, a smoothed line and a band, no script."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

LARGEST = 1e100
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 34, 44


@dataclass(frozen=True)
class Line:
    """One line of a chart: points (x, y), drawn raw or, when `smooth`, as moving mean over faint raw points.

    `spread`, as long as y, is drawn as a band y ± spread; a smoothed line without one gets its moving deviation.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    smooth: bool = True


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
) -> str:
    """SVG text of the chart; its colours come from the page's classes line0, line1, ... (`stroke`, `fill`).

    Points that are not finite are left out. `markers` are upright lines at an x within the points, with their text;
    `whole_x` keeps ticks in x to whole numbers.

    Raises:
        ValueError: no line has a finite point.
    """
    drawn = [_prepared(line) for line in lines]
    all_x, all_raw, _, all_low, all_high = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    if not len(all_x):
        raise ValueError(f"Expected at least one finite point in the chart {title!r}, got none.")
    x_ticks = nice_ticks(all_x.min(), all_x.max(), whole=whole_x, about=max(2, width // 100))
    low, high = min(all_raw.min(), all_low.min()), max(all_raw.max(), all_high.max())
    y_ticks = nice_ticks(low, high, about=max(2, height // 50))
    plot_width, plot_height = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def place(x: np.ndarray, y: np.ndarray) -> list[str]:
        across = _LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * plot_width
        down = _TOP + plot_height - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * plot_height
        return [f"{a:.1f},{d:.1f}" for a, d in zip(across, down, strict=True)]

    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">',
        f'<text class="chart-title" x="{_LEFT}" y="18">{escape(title)}</text>',
    ]
    parts += _axes(x_ticks, y_ticks, x_label, y_label, width, height)
    for x, text in markers:
        across = _LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * plot_width
        late = across > _LEFT + plot_width / 2
        parts.append(
            f'<line class="marker" x1="{across:.1f}" y1="{_TOP}" x2="{across:.1f}" y2="{_TOP + plot_height}"/>'
            f'<text class="marker" x="{across + (-4 if late else 4):.1f}" y="{_TOP + 10}" '
            f'text-anchor="{"end" if late else "start"}">{escape(text)}</text>'
        )
    for number, (x, raw, middle, low, high) in enumerate(drawn):
        if not len(x):
            continue
        if (high > low).any():
            outline = place(x, high) + place(x, low)[::-1]
            parts.append(f'<polygon class="band line{number}" points="{" ".join(outline)}"/>')
        if not np.array_equal(raw, middle):
            parts.append(f'<polyline class="raw line{number}" points="{" ".join(place(x, raw))}"/>')
        parts.append(f'<polyline class="curve line{number}" points="{" ".join(place(x, middle))}"/>')
        if len(x) <= 25:
            centres = (point.split(",") for point in place(x, middle))
            parts += [f'<circle class="line{number}" cx="{cx}" cy="{cy}" r="3"/>' for cx, cy in centres]
    if len(lines) > 1:
        parts += _legend([line.label for line in lines], width)
    return "".join(parts) + "</svg>"


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


def _prepared(line: Line) -> tuple[np.ndarray, ...]:
    """x, raw y, drawn y, band's low and high edge: points that are finite and no giants only."""
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    spread = np.zeros_like(y) if line.spread is None else _spread(line.spread)
    # whatever is plotted is added and squared: at the end of the number range that has no result
    keep = (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST)
    x, y, spread = x[keep], y[keep], spread[keep]
    # A twentieth of the run on either side: long enough to see a trend under batch noise, short enough for bends.
    half = len(y) // 20 if line.smooth else 0
    if half == 0:
        return x, y, y, y - spread, y + spread
    windows = [slice(max(0, i - half), i + half + 1) for i in range(len(y))]
    middle = np.array([y[window].mean() for window in windows])
    if line.spread is None:
        band = np.array([(y[window] - middle[i]).std() for i, window in enumerate(windows)])
    else:
        band = np.array([spread[window].mean() for window in windows])
    return x, y, middle, middle - band, middle + band


def _spread(values: Sequence[float]) -> np.ndarray:
    spread = np.nan_to_num(np.asarray(values, float), posinf=0.0, neginf=0.0)
    return np.where(np.abs(spread) < LARGEST, spread, 0.0)


def _axes(x_ticks, y_ticks, x_label: str, y_label: str, width: int, height: int) -> list[str]:
    right, bottom = width - _RIGHT, height - _BOTTOM
    parts = []
    for tick in y_ticks:
        y = bottom - (tick - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (bottom - _TOP)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        x = _LEFT + (tick - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (right - _LEFT)
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}"/>')
        anchor = "end" if tick == x_ticks[-1] else "middle"
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="{anchor}">{_number(tick)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    centre = (_LEFT + right) / 2
    parts.append(f'<text x="{centre:.0f}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (_TOP + bottom) / 2
    turned = f'transform="rotate(-90 14 {middle:.0f})"'
    parts.append(f'<text x="14" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    return parts


def _legend(labels: Sequence[str], width: int) -> list[str]:
    parts = []
    x = width - _RIGHT
    for number in range(len(labels) - 1, -1, -1):
        x -= 7 * len(labels[number]) + 30
        parts.append(f'<line class="curve line{number}" x1="{x}" y1="14" x2="{x + 18}" y2="14"/>')
        parts.append(f'<text x="{x + 23}" y="18">{escape(labels[number])}</text>')
    return parts


def _number(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")
