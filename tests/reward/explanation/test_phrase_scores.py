import numpy as np
import pytest

from reward.explanation.phrase_scores import score_phrases
from reward.language.phrases import split_prompt


def reader(*truths):
    """A judge that gives a prompt the share of the true words that it says, and never takes a question twice."""

    def score(prompts):
        assert len(prompts) == len(set(prompts)) and "" not in prompts
        return np.array([np.mean([word in prompt.split() for word in truths]) for prompt in prompts])

    return score


@pytest.mark.parametrize(
    ("prompt", "truths", "worst", "swap"),
    [
        ("a red ring left of a green square", "red ring left blue square", "a green square", ("green", "blue")),
        ("a red ring left of a blue square", "red ring below blue square", "left of", ("left of", "below")),
        ("a red ring and a blue square", "red triangle blue square", "a red ring", ("ring", "triangle")),
        ("two cats on a chair", "three cats on chair", "two", ("two", "three")),
    ],
)
def test_the_phrase_whose_swap_is_right_is_the_worst(prompt, truths, worst, swap):
    found = score_phrases(split_prompt(prompt), reader(*truths.split()))
    assert found.worst.text == worst
    assert (found.worst.best_swap.old, found.worst.best_swap.new) == swap
    assert found.worst.margin < 0 and found.clearly_wrong
    assert found.worst.margin == pytest.approx(found.prompt_score - found.worst.best_score)


def test_where_all_is_right_nothing_is_clearly_wrong():
    found = score_phrases(
        split_prompt("a red ring left of a blue square"), reader(*"red ring left blue square".split())
    )
    assert all(phrase.margin > 0 for phrase in found.phrases) and not found.clearly_wrong


def test_a_phrase_without_swaps_is_left_out_instead():
    found = score_phrases(split_prompt("a zorb near a cat"), reader("cat"), knows=lambda old, new: False)
    assert [phrase.best_swap for phrase in found.phrases] == [None] * len(found.phrases)
    assert found.worst.margin == found.prompt_score - found.worst.without


def test_one_phrase_without_swaps_has_no_margin():
    found = score_phrases(split_prompt("a zorb"), reader("zorb"), knows=lambda old, new: False)
    assert found.worst is None and not found.clearly_wrong and found.phrases[0].without is None


def test_a_phrase_behind_the_context_is_no_ones_worst():
    def cut(prompts):
        return np.array([np.mean([word in prompt.split()[:3] for word in ("red", "ring")]) for prompt in prompts])

    found = score_phrases(split_prompt("a red ring left of a blue square"), cut)
    assert [phrase.margin is None for phrase in found.phrases] == [False, True, True]
    assert found.worst.text == "a red ring"


def test_words_that_the_tower_does_not_know_are_not_asked():
    asked = []

    def score(prompts):
        asked.extend(prompts)
        return np.zeros(len(prompts))

    score_phrases(split_prompt("a red ring"), score, knows=lambda old, new: new != "orange")
    assert "a blue ring" in asked and not any("orange" in prompt for prompt in asked)
