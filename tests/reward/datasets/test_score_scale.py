import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.datasets import ScoreScale

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30).filter(lambda x: max(x) - min(x) > 1e-3)


@given(SCORES)
def test_training_scores_fill_the_unit_interval_and_come_back(scores):
    scale = ScoreScale.fit(np.array(scores))
    units = scale.to_unit(scores)
    assert units.min() == 0 and units.max() == 1
    assert np.allclose(scale.from_unit(units), scores, rtol=1e-9, atol=1e-6)


def test_other_parts_are_clipped_and_change_nothing():
    scale = ScoreScale.fit([1.0, 3.0])
    assert scale == ScoreScale(1.0, 3.0)
    assert scale.to_unit([[0.0, 1.0], [2.0, 5.0]]).tolist() == [[0, 0], [0.5, 1]]
    assert scale.from_unit([-0.5, 1.5]).tolist() == [0, 4]


@pytest.mark.parametrize("scores", [[], [math.nan, 1], [math.inf, 1]])
def test_scores_that_cannot_be_fitted(scores):
    with pytest.raises(ValueError, match="Expected finite training scores"):
        ScoreScale.fit(scores)


def test_a_constant_score():
    with pytest.raises(ValueError, match="Expected training scores that differ but all 2 are 3.0"):
        ScoreScale.fit([3, 3])


@pytest.mark.parametrize("low, high", [(1, 1), (2, 1), (math.nan, 1), (0, math.inf)])
def test_bad_constants(low, high):
    with pytest.raises(ValueError, match="Expected finite scores low < high"):
        ScoreScale(low, high)
