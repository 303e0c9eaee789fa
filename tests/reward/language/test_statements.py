import pytest

from reward.language.statements import share_kept


@pytest.mark.parametrize(
    ("prompt", "changed", "kept"),
    [
        ("a red ring", "a red ring", 1),
        ("a red ring", "a blue ring", 1 / 2),
        ("two red rings", "three red rings", 2 / 3),
        ("a ring left of a square", "a ring right of a square", 2 / 3),
        ("a ring left of a square", "a square right of a ring", 1),  # says the same
        ("a ring left of a square", "a triangle left of a square", 1 / 3),
        ("a gray ring", "a grey ring", 1),
        ("a dog", "8k", 1),
    ],
)
def test_what_is_kept(prompt, changed, kept):
    assert share_kept(prompt, changed) == pytest.approx(kept)
