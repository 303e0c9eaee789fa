"""The benchmark itself, with a captioner that never errs: what it then finds is the check's own doing."""

import numpy as np
import pytest

from benchmarks.caption_check.alarm import first_alarm
from benchmarks.caption_check.perfect import answer, caption, perfect_check
from benchmarks.caption_check.run import auc, derangement, measure, sample_scenes
from tinyworld.scenes import Kind, SceneObject

RED, BLUE = SceneObject(Kind("red", "ring"), 0.2, 0.5, 0.13), SceneObject(Kind("blue", "square"), 0.8, 0.5, 0.13)


def test_a_perfect_captioner_tells_true_from_wrong_and_nothing_of_another_picture():
    scenes = sample_scenes(np.random.default_rng(3), 60, "held-out")
    rows = {(r["measure"], r["prompts"], r["wrong"]): r for r in measure(perfect_check(exactly_one=True), scenes, 0)
            if r["scenes"] == "all"}  # fmt: skip
    for name in ("prompt_yes", "questions_yes", "caption_coverage"):
        for kind in ("any", "colour", "shape", "number", "relation"):
            assert rows[name, "own", kind]["auc"] == 1, (name, kind)
        if (name, "shuffled", "any") in rows:
            assert abs(rows[name, "shuffled", "any"]["auc"] - 0.5) < 0.1
    name = "questions_yes, a = at least one"
    for kind in ("colour", "shape", "relation"):
        assert rows[name, "own", kind]["auc"] == 1
    # two rings are no mistake then
    assert 0.5 <= rows[name, "own", "number"]["auc"] < 1


@pytest.mark.parametrize(
    ("question", "yes"),
    [
        ("Does the picture show a red ring left of a blue square?", True),
        ("Does the picture show a red ring right of a blue square?", False),
        ("Is there a ring in the picture?", True),
        ("Is there a triangle in the picture?", False),
        ("Is there a red ring in the picture?", True),
        ("Are there exactly two red rings in the picture?", False),
        ("Is there exactly one red ring in the picture?", True),
        ("Is there exactly one ring in the picture?", True),
        ("Is there exactly one green ring in the picture?", False),
        ("Is there a blue square right of a red ring in the picture?", True),
    ],
)
def test_answers(question, yes):
    assert answer([RED, BLUE], question) is yes


def test_captions():
    assert caption([RED, BLUE]) == "a red ring left of a blue square"
    assert caption([RED, RED]) == "two red rings"
    assert caption([RED, BLUE, RED]) == "a red ring and a blue square and a red ring"
    with pytest.raises(ValueError, match="about the tiny world"):
        answer([], "Why?")


def test_auc_counts_pairs_and_half_of_ties():
    true, wrong = np.array([0.9, 0.5, 0.1]), np.array([0.5, 0.2])
    expected = np.mean([(t > w) + 0.5 * (t == w) for t in true for w in wrong])
    assert auc(true, wrong) == pytest.approx(expected)


def test_nobody_keeps_their_own_prompt():
    prompts = ["a", "a", "a", "b", "c", "d"]
    order = derangement(prompts, np.random.default_rng(0))
    assert sorted(order) == list(range(6)) and all(prompts[j] != prompts[i] for i, j in enumerate(order))


def test_the_first_alarm_of_a_metric_alone():
    looks = [{"alarming": []}, {"alarming": ["oracle"]}, {"alarming": ["caption", "oracle"]}]
    assert [first_alarm(looks, name) for name in ("caption", "oracle", "other")] == [3, 2, None]
