import math

import numpy as np
import pytest

from reward.pages.formatting import number, signed, trend


@pytest.mark.parametrize(
    ("value", "unsigned", "with_sign"),
    [(0.12345, "0.123", "+0.123"), (-2, "−2.000", "−2.000"), (-0.0001, "0.000", "−0.000"), (-0.0, "0.000", "+0.000"),
     (np.float64(0.5), "0.500", "+0.500"), (math.nan, "–", "–"), (math.inf, "–", "–"), (None, "–", "–"),
     (True, "–", "–"), ("<b>1</b>", "–", "–")],
)  # fmt: skip
def test_numbers(value, unsigned, with_sign):
    assert number(value) == unsigned and signed(value) == with_sign


def test_digits():
    assert number(1.256, 2) == "1.26" and number(1000.4, 0) == "1000"


@pytest.mark.parametrize(
    ("change", "interval", "style"),
    [(0.1, None, "better"), (-0.1, None, "worse"), (0.1, [0.05, 0.2], "better"), (-0.1, [-0.2, -0.05], "worse"),
     (0.1, [-0.01, 0.2], "same"), (0, None, "same"), (None, None, "same"), (math.nan, None, "same"),
     ("<b>", None, "same")],
)  # fmt: skip
def test_a_change_is_coloured_only_where_its_interval_leaves_zero(change, interval, style):
    assert trend(change, interval) == style
