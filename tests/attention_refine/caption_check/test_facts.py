import numpy as np
import pytest

from attention_refine.caption_check.facts import coverage, covered, prompt_facts
from tinyworld.data import altered
from tinyworld.scenes import RELATIONS, Prompt, all_prompts, sample_prompt


def test_facts_of_a_relation():
    facts = prompt_facts("a red ring left of two squares")
    assert [(fact.kind, fact.text, fact.depends_on) for fact in facts] == [
        ("thing", "a ring", ()),
        ("attribute", "a red ring", (0,)),
        ("thing", "a square", ()),
        ("number", "exactly two squares", (2,)),
        ("relation", "a red ring left of two squares", (1, 3)),
    ]


def test_what_is_said_twice_is_one_fact():
    texts = [fact.text for fact in prompt_facts("a red ring above a blue ring")]
    assert texts == ["a ring", "a red ring", "a blue ring", "a red ring above a blue ring"]


@pytest.mark.parametrize(
    ("prompt", "caption", "missing"),
    [
        ("a red ring", "a red ring", []),
        ("a red ring", "a blue ring", ["a red ring"]),
        ("a red ring", "a red square", ["a ring", "a red ring"]),
        ("a red ring", "two red rings", ["a red ring"]),
        ("a red ring", "a red ring and a blue ring", []),
        ("a red ring", "a red ring and a red ring", ["a red ring"]),
        ("a red ring", "some red rings", []),
        ("two red rings", "a red ring left of a red ring", []),
        ("two red rings", "red rings", ["exactly two red rings"]),
        ("two red rings", "three red rings", ["exactly two red rings"]),
        ("a ring left of a square", "a square to the right of a ring", []),
        ("a ring left of a square", "a square left of a ring", ["a ring left of a square"]),
        ("a ring left of a square", "a ring and a square", ["a ring left of a square"]),
        ("a cat under a table", "a table above a cat", []),
        ("a dog running", "a dog running through a field", []),
        ("a gray cat near a dog", "a dog next to a grey cat", []),
        ("a red ring left of a blue square", "", ["a ring", "a red ring", "a square", "a blue square",
                                                  "a red ring left of a blue square"]),
    ],
)  # fmt: skip
def test_what_a_caption_covers(prompt, caption, missing):
    facts = prompt_facts(prompt)
    holds = covered(facts, caption)
    assert [fact.text for fact, hold in zip(facts, holds, strict=True) if not hold] == missing


def test_coverage_is_a_share_and_empty_for_a_prompt_that_names_nothing():
    assert coverage("a red ring", "a blue ring") == 0.5
    assert coverage("8k", "a ring") is None


def test_each_prompt_of_the_tiny_world_is_covered_by_itself_and_not_by_one_with_one_thing_wrong():
    prompts = all_prompts()
    assert all(coverage(prompt.text, prompt.text) == 1 for prompt in prompts[::7])
    rng = np.random.default_rng(0)
    for _ in range(300):
        shown = sample_prompt(rng)
        if shown.second and not shown.relation:  # a caption says how two things stand
            shown = Prompt(shown.first, second=shown.second, relation=RELATIONS[rng.integers(4)])
        asked = altered(shown, rng)
        assert coverage(shown.text, shown.text) == 1 > coverage(asked.text, shown.text), (shown.text, asked.text)
