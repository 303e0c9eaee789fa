import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.language.portions import portions


def fits(words):
    return lambda text: len(text.split()) <= words


@pytest.mark.parametrize(
    ("prompt", "words", "expected"),
    [
        ("a cat on a mat", 5, ["a cat on a mat"]),
        ("a cat. a dog on a mat. a bird", 5, ["a cat.", "a dog on a mat.", "a bird"]),
        ("a big old cat, a dog on a mat", 4, ["a big old cat,", "a dog", "on a mat"]),
        ("one two three four five", 2, ["one two", "three four", "five"]),
        ("a cat;\n a dog", 2, ["a cat;", "a dog"]),
        ("", 0, [""]),
    ],
)
def test_portions(prompt, words, expected):
    assert portions(prompt, fits(words)) == expected


@given(st.text(alphabet="ab .,\n", max_size=60), st.integers(1, 6))
def test_no_word_is_lost_and_all_fit(prompt, words):
    found = portions(prompt, fits(words))
    assert " ".join(found).split() == prompt.split()
    assert all(fits(words)(part) for part in found)
