"""The official metrics, on what is known of the official scripts."""

import random

import pytest

from attention_refine.vqa.metrics import anls, edit_distance, exact_match, normalise_answer, vqa_accuracy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", "yes"),
        ("The dog", "dog"),
        ("an apple a day", "apple day"),
        ("two", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),
        ("ow's'at", "'ow's'at"),
        ("y'alldve", "y'alldve"),
        ("yall'd've", "y'all'd've"),
        ("somebody'd", "somebodyd"),
        ("its", "its"),
        ("3.5", "3.5"),
        ("3. 5", "3 5"),
        ("p.m.", "pm"),
        ("red-white", "red white"),
        ("red - white", "red white"),
        ("1,000", "1000"),
        ("1,000 [x] a-b", "1000 x ab"),
        ("none of the three", "0 of 3"),
        ("(yes)", "yes"),
        ("." * 40, "." * 8),
        ("1,000-2,000", "10002000"),
        ("cat,dog", "cat dog"),
        ("cat, dog", "cat dog"),
        ("what?!", "what"),
        ("a/b", "b"),
        ("it's: here", "it's: here"),
        ("line\nbreak\tand  spaces ", "line break and spaces"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_by_the_official_script(text, expected):
    assert normalise_answer(text) == expected


@pytest.mark.parametrize(("same", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_by_the_number_of_annotators_who_agree(same, expected):
    given = ["blue"] * same + [f"other {i}" for i in range(10 - same)]
    assert vqa_accuracy("blue", given) == pytest.approx(expected)


def test_vqa_accuracy_is_the_mean_over_the_annotators_left_out():
    rng = random.Random(1)
    for _ in range(200):
        given = [rng.choice("abcd") + "x" for _ in range(10)]
        answer = rng.choice("abcd") + "x"
        each = [min(1, sum(g == answer for j, g in enumerate(given) if j != i) / 3) for i in range(10)]
        assert vqa_accuracy(answer, given) == pytest.approx(sum(each) / 10)


def test_unanimous_answers_are_compared_as_they_are_except_in_textvqa():
    assert vqa_accuracy("two", ["2"] * 10) == 0
    assert vqa_accuracy("two", ["2"] * 10, as_given_if_unanimous=False) == 1
    assert vqa_accuracy("two", ["2"] * 9 + ["3"]) == 1


def test_exact_match_lowers_case_and_drops_the_full_stop():
    assert exact_match(" Left. ", ["left"]) == 1
    assert exact_match("left side", ["left"]) == 0
    assert exact_match("b", ["a", "B"]) == 1


@pytest.mark.parametrize(
    ("answer", "given", "expected"),
    [
        ("hello", ["hello"], 1),
        ("Hello  World", ["hello world"], 1),
        ("helo", ["hello"], 0.8),
        ("abcd", ["abxy"], 0.5),
        ("abc", ["axy"], 0),
        ("helo", ["nothing", "hello"], 0.8),
        ("", ["hello"], 0),
        ("", [""], 1),
    ],
)
def test_anls(answer, given, expected):
    assert anls(answer, given) == pytest.approx(expected)


def test_edit_distance_against_the_recursive_definition():
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    rng = random.Random(2)
    for _ in range(100):
        one, two = ("".join(rng.choice("ab") for _ in range(rng.randrange(6))) for _ in range(2))
        assert edit_distance(one, two) == slow(one, two)


@pytest.mark.parametrize("metric", [vqa_accuracy, exact_match, anls])
def test_a_question_without_answers_is_refused(metric):
    with pytest.raises(ValueError, match="at least one given answer"):
        metric("yes", [])
