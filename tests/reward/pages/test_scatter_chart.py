import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from reward.pages.rendering import render
from reward.pages.scatter_chart import MOST_POINTS, scatter_chart


def dots(x, y):
    chart = scatter_chart(x, y, title="<a>", x_label="x", y_label="y")
    svg = ElementTree.fromstring(render("reward/pages/templates/chart.svg", chart=chart))
    assert svg.get("aria-label") == "<a>"
    return [(float(node.get("cx")), float(node.get("cy"))) for node in svg if node.tag == "circle"]


def test_a_dot_lies_where_its_numbers_are_and_what_is_not_finite_is_left_out():
    assert dots([0, 1, 2, math.nan, 5], [0, 10, 5, 1, math.inf]) == [(58.0, 288.0), (201.0, 50.0), (344.0, 169.0)]


def test_equal_numbers_are_drawn_too():
    assert len(set(dots([1, 1], [2, 2]))) == 1


def test_of_many_points_every_second_is_drawn():
    values = np.arange(MOST_POINTS + 1)
    assert len(dots(values, values)) == MOST_POINTS // 2 + 1


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least one finite point"):
        dots([math.nan], [1])
