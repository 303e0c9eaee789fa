import numpy as np
import pytest

from tinyworld.models.llava_batches import sample_scenes
from tinyworld.models.llava_measure import draw_questions, facts_told
from tinyworld.scenes import parse_prompt

PAIR = "a red ring left of a blue square"


@pytest.mark.parametrize(
    ("said", "truth", "told"),
    [
        (PAIR, PAIR, {"object": [True, True], "relation": [True]}),
        ("a blue square right of a red ring", PAIR, {"object": [True, True], "relation": [True]}),
        ("a blue square left of a red ring", PAIR, {"object": [True, True], "relation": [False]}),
        ("a red ring above a blue square", PAIR, {"object": [True, True], "relation": [False]}),
        ("a red ring left of a cyan square", PAIR, {"object": [True, False], "relation": [False]}),
        ("a red ring and a blue square", PAIR.replace("left", "right"), {"object": [True] * 2, "relation": [False]}),
        ("a red ring", PAIR, {"object": [True, False], "relation": [False]}),
        ("a red ring", "two red rings", {"object": [True], "count": [False]}),
        ("two red rings", "two red rings", {"object": [True], "count": [True]}),
        ("nothing", PAIR, {"object": [False, False], "relation": [False]}),
        ("a red ring ring", "a red ring", {"object": [False], "count": [False]}),
        ("two red rings left of a blue square", PAIR, {"object": [False, False], "relation": [False]}),
    ],
)
def test_facts_told(said, truth, told):
    assert facts_told(said, parse_prompt(truth)) == told


def test_drawn_questions_are_balanced_and_none_is_asked_twice():
    scenes = sample_scenes(np.random.default_rng(0), 50, held_out=True, free=0)
    drawn = draw_questions("whole", scenes.objects, 80, np.random.default_rng(1))
    assert len(drawn) == len(set(drawn)) == 80
    assert sum(question.answer == "yes" for _, question in drawn) == 40
    assert draw_questions("relation", [[]], 10, np.random.default_rng(1)) == []
