"""What is said of a model beside its controls."""

import pytest

from reward.training.controls import CONTROLS, MEANINGS, in_words


def test_every_control_has_words():
    assert MEANINGS.keys() == CONTROLS.keys()


@pytest.mark.parametrize(
    ("gap", "said"),
    [((0.05,), False), ((0.0,), True), ((-0.05,), True), ((0.05, 0.01, 0.09), False), ((0.05, -0.01, 0.11), True),
     ((-0.05, -0.1, -0.01), True)],
)  # fmt: skip
@pytest.mark.parametrize("control", CONTROLS)
def test_only_a_clear_lead_is_passed_over(control, gap, said):
    words = in_words(control, *gap)
    assert (words is not None) is said
    if said:
        assert MEANINGS[control] in words and f"{gap[0]:+.3f}" in words and ("interval" in words) is (len(gap) > 1)
