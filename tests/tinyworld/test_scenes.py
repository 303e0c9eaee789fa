import hashlib

import numpy as np
import pytest

from tinyworld.data import altered, sample_pairs, worn
from tinyworld.oracle import facts_that_hold, read_scene, relation_between
from tinyworld.scenes import (
    KINDS,
    all_prompts,
    held_out_combinations,
    heldout_prompts,
    parse_prompt,
    render,
    sample_prompt,
    sample_scene,
    shape_distance,
    train_prompts,
)


def test_the_split_is_fixed_and_complete():
    train, held_out = train_prompts(), heldout_prompts()
    assert (len(train), len(held_out)) == (1052, 514)
    assert len({*train, *held_out}) == len(train) + len(held_out) == len(all_prompts())
    # A changed split would silently turn held-out prompts into prompts that the shipped weights were trained on.
    assert hashlib.sha256("\n".join(sorted(held_out)).encode()).hexdigest()[:16] == "b2895a4c4c308723"


def test_no_held_out_combination_is_drawn_for_training_in_either_order():
    pairs, doubles = held_out_combinations()
    rng = np.random.default_rng(0)
    for _ in range(3000):
        prompt = sample_prompt(rng)
        assert prompt.second is None or frozenset((prompt.first, prompt.second)) not in pairs
        assert prompt.count == 1 or prompt.first not in doubles
        assert not altered(prompt, rng).held_out


def test_every_kind_is_seen_in_training_pairs_and_alone():
    train = [parse_prompt(text) for text in train_prompts()]
    assert {kind for p in train if p.second for kind in (p.first, p.second)} == set(KINDS)
    assert {p.first for p in train if p.second is None and p.count == 1} == set(KINDS)


def test_held_out_draws_are_held_out():
    rng = np.random.default_rng(1)
    assert all(sample_prompt(rng, held_out=True).held_out for _ in range(300))


def test_text_and_prompt_are_inverse():
    for prompt in all_prompts():
        assert parse_prompt(prompt.text) == prompt


@pytest.mark.parametrize(
    "text",
    ["", "a orange ring", "two red ring", "a red rings", "two red rings and a blue square", "red ring"],
)
def test_text_outside_the_grammar_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="a red ring left of a blue square"):
        parse_prompt(text)


@pytest.mark.parametrize("seed", range(3))
def test_scenes_show_what_the_prompt_says_and_nothing_overlaps(seed):
    rng = np.random.default_rng(seed)
    for _ in range(200):
        prompt = sample_prompt(rng)
        objects = sample_scene(prompt, rng)
        assert all(facts_that_hold(objects, prompt))
        for item in objects:
            assert item.radius < item.x < 1 - item.radius and item.radius < item.y < 1 - item.radius
        if len(objects) == 2:
            one, two = objects
            gap = max(abs(one.x - two.x), abs(one.y - two.y))
            assert gap > 1.4 * (one.radius + two.radius)
            if prompt.relation:
                assert relation_between(one, two) == prompt.relation


@pytest.mark.parametrize("shape", ["ring", "square", "triangle"])
def test_shapes_of_one_radius_have_one_area_and_their_centroid_at_the_centre(shape):
    axis = np.linspace(-40, 40, 801)
    dx, dy = np.meshgrid(axis, axis)
    inside = shape_distance(shape, dx, dy, 10.0) < 0
    area = inside.sum() * 0.1**2
    assert area == pytest.approx(np.pi * 100, rel=0.01)
    assert abs(dx[inside].mean()) < 0.1 and abs(dy[inside].mean()) < 0.1


def test_pictures_are_reproducible_and_in_range():
    first, second = (sample_pairs(np.random.default_rng(5), 4) for _ in range(2))
    assert (first[0] == second[0]).all() and first[1] == second[1]
    assert first[0].shape == (4, 3, 48, 48)
    old = worn(first[0], np.random.default_rng(0))
    assert 0 <= old.min() and old.max() <= 1 and (old - first[0]).abs().mean() < 0.05


def test_an_altered_prompt_is_false_of_the_scene():
    rng = np.random.default_rng(3)
    for _ in range(500):
        prompt = sample_prompt(rng)
        objects = read_scene(render(sample_scene(prompt, rng)))
        assert not all(facts_that_hold(objects, altered(prompt, rng)))
