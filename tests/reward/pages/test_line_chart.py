import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from reward.pages.chart import Chart, nice_ticks
from reward.pages.line_chart import Line, line_chart
from reward.pages.rendering import render


def drawn(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(render("reward/pages/templates/chart.svg", chart=chart))


def test_a_chart_places_its_points_between_its_ticks():
    svg = drawn(line_chart([Line("a<b", [0, 10], [0, 1], smooth=False)], title="t&t", x_label="x", y_label="y"))
    (curve,) = [node for node in svg if node.get("class") == "curve line0"]
    assert curve.get("points") == "58.0,228.0 504.0,50.0"
    assert svg.get("aria-label") == "t&t"
    assert {"0", "0.0", "0.2", "1.0", "10"} <= {node.text for node in svg if node.tag == "text"}


def test_a_chart_smooths_and_bands():
    x = np.arange(200)
    noisy = np.where(x % 2, 1.0, 0.0)
    svg = drawn(line_chart([Line("n", x, noisy)], title="n", x_label="x", y_label="y"))
    kinds = [node.get("class") for node in svg if node.tag.startswith("poly")]
    assert kinds == ["band line0", "raw line0", "curve line0"]
    curve = [node for node in svg if node.get("class") == "curve line0"][0].get("points").split()
    heights = [float(point.split(",")[1]) for point in curve]
    assert max(heights) - min(heights) < 0.1 * 178, "the alternation is averaged away"


def test_two_lines_have_a_legend_and_an_empty_chart_is_refused():
    lines = [Line("base", [1, 2], [0.5, 0.5]), Line("lora", [1], [0.5])]
    svg = drawn(line_chart(lines, title="t", x_label="x", y_label="y"))
    assert {"base", "lora"} <= {node.text for node in svg}
    with pytest.raises(ValueError, match="at least one finite point in the chart 't'"):
        line_chart([Line("a", [1], [math.nan])], title="t", x_label="x", y_label="y")


def test_a_line_without_a_finite_point_keeps_the_colours_of_the_others():
    lines = [Line("base", [1], [math.inf]), Line("lora", [1, 2], [0.5, 0.6], smooth=False)]
    svg = drawn(line_chart(lines, title="t", x_label="x", y_label="y"))
    assert [node.get("class") for node in svg if node.tag == "polyline"] == ["curve line1"]


def test_a_title_that_does_not_fit_is_cut_where_it_is_drawn():
    svg = drawn(line_chart([Line("a", [1, 2], [1, 2])], title="word " * 30, x_label="x", y_label="", width=320))
    title = next(node.text for node in svg if node.get("class") == "chart-title")
    assert len(title) == 40 and title.endswith("…") and svg.get("aria-label") == "word " * 30


def test_markers_stay_inside_the_chart_and_ticks_may_be_fractions():
    svg = drawn(line_chart(
        [Line("a", [0.3, 0.4], [1, 2])], title="t", x_label="x", y_label="y",
        markers=[(0.31, "<early>"), (0.4, "late")], whole_x=False,
    ))  # fmt: skip
    lines = [node for node in svg.iter("line") if node.get("class") == "marker"]
    texts = [node for node in svg.iter("text") if node.get("class") == "marker"]
    assert [node.text for node in texts] == ["<early>", "late"]
    assert [node.get("text-anchor") for node in texts] == ["start", "end"]
    assert float(lines[0].get("x1")) < float(lines[1].get("x1")) == pytest.approx(504)
    assert "0.32" in [node.text for node in svg.iter("text")]


@pytest.mark.parametrize(
    ("y", "texts"),
    [([0.58, 0.62], {"0.58", "0.60", "0.62"}), ([-1, 1], {"−1.0", "0.0", "1.0"}), ([1e30, 2e30], {"1e+30", "2e+30"}),
     ([1e-9, 2e-9], {"1e-09".replace("-", "−"), "2e-09".replace("-", "−")})],
)  # fmt: skip
def test_ticks_of_an_axis_have_the_same_decimals(y, texts):
    chart = line_chart([Line("a", [1, 2], y, smooth=False)], title="t", x_label="x", y_label="y")
    assert texts <= {tick.text for tick in chart.y_ticks}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.41, 0.58, [0.4, 0.45, 0.5, 0.55, 0.6]), (-3e-7, 2e-7, None), (5, 5, None)],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12 and 2 <= len(ticks) <= 8
    if expected:
        np.testing.assert_allclose(ticks, expected)
