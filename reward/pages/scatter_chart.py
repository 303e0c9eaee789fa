"""A scatter plot for a page."""

from collections.abc import Sequence

import numpy as np

from reward.pages.chart import LARGEST, Chart, nice_ticks

MOST_POINTS = 2000  # each takes 50 bytes of the page


def scatter_chart(
    x: Sequence[float], y: Sequence[float], *, title: str, x_label: str, y_label: str, width: int = 360,
    height: int = 330,
) -> Chart:
    """Place points (x, y); those that are not finite are left out.

    Of more points than `MOST_POINTS` every second, third, ... is drawn.

    Args:
        x, y: the points, equally many.
        title, x_label, y_label: texts.
        width, height: in pixels.

    Raises:
        ValueError: no finite point.
    """  # fmt: skip
    x, y = np.asarray(x, float), np.asarray(y, float)
    keep = (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST)
    if not keep.any():
        raise ValueError(f"Expected at least one finite point in the chart {title!r}, got none.")
    x, y = x[keep], y[keep]
    ranges = [nice_ticks(values.min(), values.max(), about=5) for values in (x, y)]
    chart = Chart(title, x_label, y_label, *ranges, width=width, height=height)
    every = -(-len(x) // MOST_POINTS)
    chart.cloud = chart.places(x[::every], y[::every])
    return chart
