import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward.datasets import SPLIT_SEEDS, TEST_SHARES, prompt_key, split_by_prompt

WORDS = ["a corgi", "A  Corgi ", "a\tcorgi", "ein Straßenbild", "EIN STRASSENBILD", "ﬁre", "fire", "a b", "ab"]


@given(
    prompts=st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), min_size=1, max_size=60),
    seed=st.integers(0, 10**9),
    test_share=st.sampled_from([0.0, 0.2, 0.25, 0.5]),
    val_share=st.sampled_from([0.0, 0.1, 0.25]),
)
@settings(max_examples=100, deadline=None)
def test_no_prompt_crosses(prompts, seed, test_share, val_share):
    distinct = len({prompt_key(p) for p in prompts})
    try:
        split = split_by_prompt(prompts, seed=seed, test_share=test_share, val_share=val_share)
    except ValueError:
        assert distinct <= 4
        return
    assert sorted(np.concatenate(split)) == list(range(len(prompts)))
    groups = [{prompt_key(prompts[i]) for i in part} for part in split]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert groups[0] and bool(groups[1]) == (val_share > 0) and bool(groups[2]) == (test_share > 0)
    for part in split:
        assert part.dtype == np.int64 and list(part) == sorted(part)


@given(st.integers(0, 10**6), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_does_not_matter(seed, order):
    prompts = [f"prompt {i % 37}" for i in range(111)]
    shuffled = random.Random(order).sample(prompts, len(prompts))
    parts = [split_by_prompt(p, seed=seed, test_share=0.25, val_share=0.1) for p in (prompts, shuffled)]
    for one, other in zip(*parts, strict=True):
        assert {prompts[i] for i in one} == {shuffled[i] for i in other}


@pytest.mark.parametrize("name, share", [("agiqa-3k", 1 / 5), ("aigciqa2023", 1 / 4), ("pku-i2iqa", 1 / 4)])
def test_the_papers_shares_over_ten_seeds(name, share):
    prompts = [f"prompt {i // 4}" for i in range(800)]
    assert TEST_SHARES[name] == share and len(SPLIT_SEEDS) == 10
    splits = [split_by_prompt(prompts, seed=s, test_share=TEST_SHARES[name], val_share=0.1) for s in SPLIT_SEEDS]
    for split in splits:
        assert (len(split.test), len(split.val)) == (800 * share, 80)
    assert len({tuple(split.test) for split in splits}) == 10
    # a prompt is tested about as often as chance has it
    counts = np.bincount(np.concatenate([split.test for split in splits]), minlength=800)[::4]
    assert abs(counts.var() - 10 * share * (1 - share)) < 0.5


def test_every_seed_of_validation_leaves_the_test_part():
    prompts = [f"prompt {i}" for i in range(50)]
    tests = [split_by_prompt(prompts, seed=1, test_share=0.2, val_share=v).test.tolist() for v in (0, 0.1, 0.5)]
    assert tests[0] == tests[1] == tests[2]


def test_published_numbers_stay_reproducible():
    # another hash, another order or a random generator's new version would make all earlier results another split's
    assert split_by_prompt([f"p{i}" for i in range(12)], seed=3).test.tolist() == [0, 5]


def test_what_makes_prompts_the_same():
    assert len({prompt_key(w) for w in WORDS[:3]}) == 1
    assert prompt_key("ein Straßenbild") == prompt_key("EIN STRASSENBILD") and prompt_key("ﬁre") == prompt_key("fire")
    assert prompt_key("a b") != prompt_key("ab") and prompt_key("a dog.") != prompt_key("a dog")


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.1, -0.1), (1.0, 0.0), (0.6, 0.4), (float("nan"), 0.1)])
def test_shares_out_of_range(shares):
    with pytest.raises(ValueError, match="Expected test_share and val_share in"):
        split_by_prompt(["a", "b", "c"], seed=0, test_share=shares[0], val_share=shares[1])


def test_too_few_prompts():
    with pytest.raises(ValueError, match="for 1 of testing, 1 of validation and at least 1 of training but got 2"):
        split_by_prompt(["a", "b", "A"] * 10, seed=0, test_share=0.2, val_share=0.1)
