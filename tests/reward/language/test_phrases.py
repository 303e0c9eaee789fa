import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward.language.phrases import join_pieces, left_out, split_prompt


def parts(prompt):
    return [(piece.text, piece.kind) for piece in split_prompt(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red ring left of a blue square", "a red ring/thing left of/relation a blue square/thing"),
        ("two red rings", "two/number red rings/thing"),
        ("3 cats and a dog", "3/number cats/thing and/link a dog/thing"),
        ("a photo of a corgi riding a skateboard",
         "a/link photo/style of/link a corgi/thing riding/relation a skateboard/thing"),
        ("a bowl of fruit on the wooden table",
         "a bowl/thing of/relation fruit/thing on/relation the wooden table/thing"),
        ("a cat to the left of a dog", "a cat/thing to the left of/relation a dog/thing"),
        ("a running dog", "a running dog/thing"),
        ("a dog running through a field", "a dog/thing running through/relation a field/thing"),
        ("The king is sitting on a throne", "The king/thing is/link sitting on/relation a throne/thing"),
        ("a pizza without cheese", "a pizza/thing without cheese/denial"),
        ("the car isn't red", "the car/thing is/link n't red/denial"),
        ("the car is red", "the car/thing is/link red/attribute"),
        ("a sign that says 'no'", "a sign/thing that says/link 'no'/text"),
        ("castle, 8k", "castle/thing ,/link 8k/style"),
        ("a ring", "a ring/thing"),
        ("two", "two/link"),
        ("", ""),
    ],
)  # fmt: skip
def test_split(prompt, expected):
    assert " ".join(f"{text}/{kind}" for text, kind in parts(prompt)) == expected


WORDS = st.sampled_from("a the two cat rings red of photo left to on top and with riding is , ; ( ) in front 3".split())


@settings(deadline=None)
@given(st.one_of(st.lists(WORDS, max_size=20).map(" ".join), st.text(max_size=80)))
def test_no_character_is_lost(prompt):
    pieces = split_prompt(prompt)
    assert join_pieces(pieces) == prompt.strip()
    assert all(piece.text and piece.text == piece.text.strip() for piece in pieces)


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
