import pytest

from reward.language.phrases import split_prompt
from reward.language.swaps import swaps
from reward.language.words import plural_of, singular_of


def prompts(prompt, index):
    return [swap.prompt for swap in swaps(split_prompt(prompt), index)]


def test_a_colour_is_swapped_for_colours_and_the_noun_for_its_kind():
    made = prompts("a red ring", 0)
    assert {"a blue ring", "a red square", "an orange ring"} <= set(made)
    assert "a red dog" not in made and "a red ring" not in made
    assert len(made) == len(set(made))


def test_plurals_stay_plurals():
    assert {"two red squares", "two blue rings"} <= set(prompts("two red rings", 1))
    assert "two red square" not in prompts("two red rings", 1)


def test_numbers_bend_the_noun():
    assert {"a cat", "three cats"} <= set(prompts("two cats", 0))
    assert {"two cats", "three cats"} == set(prompts("one cat", 0))
    assert {"a red ring", "2 red rings"} <= set(prompts("3 red rings", 0))
    assert {"an apple"} <= set(prompts("two apples", 0))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat left of a dog", "a cat right of a dog"),
        ("a cat to the left of a dog", "a cat to the right of a dog"),
        ("a cat on a chair", "a cat under a chair"),
        ("a man riding a horse", "a man chasing a horse"),
        ("a dog sitting on a chair", "a dog jumping on a chair"),
    ],
)
def test_relations(prompt, expected):
    assert expected in prompts(prompt, 1)


def test_what_the_prompt_says_elsewhere_is_no_swap():
    assert "a blue square left of a blue square" not in prompts("a red square left of a blue square", 0)


def test_unknown_nouns_are_swapped_for_one_of_every_class():
    made = prompts("a purple corgi", 0)
    assert {"a purple car", "a purple dog", "a red corgi"} <= set(made)


@pytest.mark.parametrize(
    ("prompt", "affirmed"),
    [
        ("a pizza without cheese", "a pizza with cheese"),
        ("a beach, no people", "a beach, people"),
        ("the car isn't red", "the car is red"),
        ("a man not wearing a hat", "a man wearing a hat"),
    ],
)
def test_what_is_denied_is_swapped_for_what_would_be_so(prompt, affirmed):
    pieces = split_prompt(prompt)
    (place,) = [i for i, piece in enumerate(pieces) if piece.kind == "denial"]
    assert prompts(prompt, place) == [affirmed]


def test_attributes_apart_from_their_noun_and_the_medium():
    assert "the car is blue" in prompts("the car is red", 2)
    assert prompts("a painting of a cat", 1)[0] == "a photo of a cat"


def test_links_have_none_and_every_swap_says_what_changed():
    assert prompts("a cat and a dog", 1) == []
    for swap in swaps(split_prompt("a red ring"), 0):
        assert swap.new in swap.prompt and swap.old not in swap.prompt.split()


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("rose", "roses"), ("size", "sizes"), ("mouse", "mice"),
     ("ring", "rings"), ("box", "boxes"), ("berry", "berries"), ("boy", "boys"), ("man", "men"), ("bus", "buses"),
     ("house", "houses"), ("sheep", "sheep"), ("glass", "glasses")],
)  # fmt: skip
def test_plurals(noun, plural):
    assert plural_of(noun) == plural
    assert singular_of(plural) == noun and singular_of(noun) == noun
