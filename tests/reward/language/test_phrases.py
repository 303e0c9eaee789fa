import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.language.phrases import join_pieces, left_out, split_prompt


def parts(prompt):
    return [(piece.text, piece.kind[0]) for piece in split_prompt(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red ring left of a blue square", "a red ring/t left of/r a blue square/t"),
        ("two red rings", "two/n red rings/t"),
        ("3 cats and a dog", "3/n cats/t and/l a dog/t"),
        ("a photo of a corgi riding a skateboard", "a photo/t of/l a corgi/t riding/r a skateboard/t"),
        ("a bowl of fruit on the wooden table", "a bowl of fruit/t on/r the wooden table/t"),
        ("a cat to the left of a dog", "a cat/t to the left of/r a dog/t"),
        ("a running dog", "a running dog/t"),
        ("a dog running through a field", "a dog/t running through/r a field/t"),
        ("The king is sitting on a throne", "The king/t is/l sitting on/r a throne/t"),
        ("castle, sunset; 8k", "castle/t ,/l sunset/t ;/l 8k/t"),
        ("a ring", "a ring/t"),
        ("two", "two/t"),
        ("", ""),
    ],
)
def test_split(prompt, expected):
    assert " ".join(f"{text}/{kind}" for text, kind in parts(prompt)) == expected


WORDS = st.sampled_from("a the two cat rings red of photo left to on top and with riding is , ; ( ) in front 3".split())


@given(st.lists(WORDS))
def test_no_word_is_lost(words):
    prompt = " ".join(words)
    joined = join_pieces(split_prompt(prompt))
    assert joined.replace(" ", "") == prompt.replace(" ", "")
    assert split_prompt(joined) == split_prompt(prompt)


@pytest.mark.parametrize("prompt", ["a cat (black), two dogs; 8k.", "a 1.5 m tall man: portrait", "a cat"])
def test_usual_punctuation_comes_back_as_it_was(prompt):
    assert join_pieces(split_prompt(prompt)) == prompt


@pytest.mark.parametrize(
    ("prompt", "index", "expected"),
    [
        ("a red ring left of a blue square", 0, "a blue square"),
        ("a red ring left of a blue square", 1, "a red ring and a blue square"),
        ("a red ring left of a blue square", 2, "a red ring"),
        ("two red rings", 0, "red rings"),
        ("a cat and two dogs", 3, "a cat"),
        ("a cat, a dog and a bird", 2, "a cat and a bird"),
        ("a dog running", 1, "a dog"),
        ("a dog", 0, ""),
    ],
)
def test_left_out(prompt, index, expected):
    assert left_out(split_prompt(prompt), index) == expected
