"""The oracle must be right before anything can be said with it."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tinyworld.data import sample_pairs
from tinyworld.oracle import facts_that_hold, oracle_reward, prompt_facts, read_scene, share_of_facts
from tinyworld.scenes import Kind, SceneObject, parse_prompt, render, sample_prompt, sample_scene

RED_RING, BLUE_SQUARE = Kind("red", "ring"), Kind("blue", "square")


def scenes(count: int, seed: int, held_out: bool):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        prompt = sample_prompt(rng, held_out)
        objects = sample_scene(prompt, rng)
        yield prompt, objects, render(objects, background=rng.uniform(0.8, 0.95)), rng


def read_right(picture, prompt, objects) -> bool:
    found = read_scene(picture)
    return sorted(o.kind for o in found) == sorted(o.kind for o in objects) and all(facts_that_hold(found, prompt))


@pytest.mark.parametrize("held_out", [False, True])
def test_clean_renders_are_read_exactly(held_out):
    right = [read_right(picture, prompt, objects) for prompt, objects, picture, _ in scenes(400, 0, held_out)]
    print(f"clean renders read entirely right: {np.mean(right):.3f}")
    assert np.mean(right) >= 0.99


def test_mildly_blurred_and_noisy_renders_are_read_right():
    right = []
    for prompt, objects, picture, rng in scenes(400, 1, False):
        blurred = ndimage.gaussian_filter(picture, (1.0, 1.0, 0))
        right.append(read_right(blurred + rng.normal(0, 0.05, picture.shape), prompt, objects))
    print(f"blurred (sigma 1) and noisy (0.05) renders read entirely right: {np.mean(right):.3f}")
    assert np.mean(right) >= 0.95


def test_a_wrong_prompt_scores_low():
    pictures, _ = sample_pairs(np.random.default_rng(2), 300)
    others = [sample_prompt(np.random.default_rng((3, i))).text for i in range(300)]
    assert oracle_reward(pictures, others)[0].mean() < 0.25


def test_facts_and_what_holds():
    picture = render([SceneObject(RED_RING, 0.25, 0.5, 0.13), SceneObject(BLUE_SQUARE, 0.75, 0.5, 0.13)])
    expected = {
        "a red ring left of a blue square": 1.0,
        "a red ring right of a blue square": 2 / 3,
        "a red ring and a blue square": 1.0,
        "a red square left of a blue square": 1 / 3,
        "a blue square right of a red ring": 1.0,
        "two red rings": 1 / 2,
        "a red ring": 1.0,
        "a green triangle": 0.0,
    }
    for text, share in expected.items():
        assert share_of_facts(picture, parse_prompt(text)) == pytest.approx(share), text
    kinds = [fact.kind for fact in prompt_facts(parse_prompt("a red ring left of a blue square"))]
    assert kinds == ["object", "object", "relation"]


def test_one_of_a_kind_means_one():
    two = render([SceneObject(RED_RING, 0.25, 0.25, 0.13), SceneObject(RED_RING, 0.75, 0.75, 0.13)])
    assert share_of_facts(two, parse_prompt("two red rings")) == 1.0
    assert share_of_facts(two, parse_prompt("a red ring")) == 0.5


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_empty_picture_has_no_objects(value):
    assert read_scene(np.full((48, 48, 3), value, np.float32)) == []


def test_noise_has_no_objects():
    assert read_scene(np.random.default_rng(0).random((48, 48, 3))) == []


def test_a_blob_without_a_shape_is_no_object():
    picture = np.full((48, 48, 3), 0.9, np.float32)
    picture[10:14, 4:44] = (0.86, 0.1, 0.1)  # a bar: the area of an object, the shape of none
    assert read_scene(picture) == []


def test_reading_does_not_depend_on_the_picture_size():
    objects = [SceneObject(RED_RING, 0.3, 0.3, 0.13), SceneObject(BLUE_SQUARE, 0.7, 0.7, 0.14)]
    for size in (48, 64, 96):
        assert sorted(o.kind for o in read_scene(render(objects, size))) == sorted(o.kind for o in objects)


def test_the_reward_contract_and_its_error():
    pictures, prompts = sample_pairs(np.random.default_rng(4), 3)
    rewards, info = oracle_reward(pictures, tuple(prompt.text for prompt in prompts), ({},) * 3)
    assert rewards.shape == (3,) and rewards.dtype == torch.float32 and info == {}
    with pytest.raises(ValueError, match="3 pictures and 1 prompts"):
        oracle_reward(pictures, ["a red ring"])
