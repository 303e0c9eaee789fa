import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention_refine.caption_check.descriptions import Relation, read_description


def told(text):
    """Things as NUMBER[attributes]noun, relations by the places of their things."""
    found = read_description(text)
    things = [f"{t.number or ''}[{' '.join(t.before)}|{' '.join(t.after)}]{t.noun}" for t in found.things]
    return things, [(r.subject, r.words, r.object) for r in found.relations]


@pytest.mark.parametrize(
    ("text", "things", "relations"),
    [
        ("a red ring left of a blue square", ["1[red|]ring", "1[blue|]square"], [(0, "left of", 1)]),
        ("two red rings", ["2[red|]ring"], []),
        ("3 cats and an old dog", ["3[|]cat", "1[old|]dog"], []),
        ("a photo of a corgi riding a skateboard", ["1[|]corgi", "1[|]skateboard"], [(0, "riding", 1)]),
        ("a man with a hat riding a horse", ["1[|]man", "1[|]hat", "1[|]horse"], [(0, "with", 1), (0, "riding", 2)]),
        ("the car is red", ["[red|]car"], []),
        ("the king is sitting on a throne", ["[|]king", "1[|]throne"], [(0, "sitting on", 1)]),
        ("a very big dog running", ["1[very big|running]dog"], []),
        ("a dog running and a cat", ["1[|running]dog", "1[|]cat"], []),
        ("a bowl of fruit on the table", ["1[|of fruit]bowl", "[|]table"], [(0, "on", 1)]),
        ("three people", ["3[|]person"], []),
        ("castle, sunset; 8k, highly detailed", ["[|]castle", "[|]sunset"], []),
        ("a digital painting of grass", ["[|]grass"], []),
        ("Barack Obama eating an apple", ["[|]barack obama", "1[|]apple"], [(0, "eating", 1)]),
        ("a gray plane", ["1[grey|]airplane"], []),
        ("left of a ring", ["1[|]ring"], []),
        ("a ring left of", ["1[|]ring"], []),
        ("two", ["[|]two"], []),
        ("", [], []),
        ("j h j : ( . the", ["[j h|]j"], []),
    ],
)
def test_what_a_text_says_is_there(text, things, relations):
    assert told(text) == (things, relations)


WORDS = st.sampled_from("a the two 3 cat rings red of photo left to on top and with is being running , ; ( it".split())


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=12).map(" ".join)))
def test_any_text_can_be_read(text):
    found = read_description(text)
    for relation in found.relations:
        assert 0 <= relation.subject < relation.object < len(found.things)
    for thing in found.things:
        assert thing.noun and thing.phrase() and thing.phrase(number=True)


@pytest.mark.parametrize(
    ("words", "opposite"),
    [("left of", "to the right of"), ("above", "below"), ("on", "under"), ("behind", "in front of"), ("near", "by")],
)
def test_a_relation_said_from_the_other_side_means_the_same(words, opposite):
    assert Relation(0, words, 1).meanings() & Relation(1, opposite, 0).meanings()
    if words != "near":
        assert not Relation(0, words, 1).meanings() & Relation(0, opposite, 1).meanings()


def test_phrases_agree_with_their_article_and_number():
    (thing,) = read_description("two big apples").things
    assert thing.phrase(number=True) == "two big apples"
    assert thing.phrase() == "a big apple"
    assert thing.only().phrase() == "an apple"
    assert read_description("15 dogs").things[0].phrase(number=True) == "15 dogs"
    assert read_description("his red hat").things[0].phrase(number=True) == "his red hat"
