import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reward.statistics.correlations import (
    bootstrap_by_prompt,
    bootstrap_draws,
    correlations,
    fit_logistic,
    interval,
    pairwise_accuracy,
    pearson,
    spearman,
    spearmans,
    within_prompt_srcc,
)

quiet = pytest.mark.filterwarnings("ignore:No logistic was fitted")


def test_by_hand():
    predicted, human = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    with pytest.warns(RuntimeWarning, match="4 pairs are too few for 4 parameters"):
        found = correlations(predicted, human, ["a", "a", "b", "b"])
    assert found == {
        "srcc": pytest.approx(1 - 6 * 2 / (4 * 15)),  # 1 - 6 sum d^2 / (n (n^2 - 1))
        "krcc": pytest.approx((5 - 1) / 6),
        "plcc": pytest.approx(0.8),
        "plcc_logistic": pytest.approx(0.8),
        "pairwise_accuracy": pytest.approx(5 / 6),
        "within_prompt_srcc": 1.0,
        "logistic_fell_back": 1.0,
    }


@quiet
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_equal_to_scipy_with_and_without_ties(data):
    count = data.draw(st.integers(5, 40))
    values = st.lists(st.integers(0, 12), min_size=count, max_size=count).filter(lambda v: len(set(v)) > 1)
    x, y = (np.array(data.draw(values), dtype=float) for _ in range(2))
    found = correlations(x, y, ["p"] * count)
    assert found["srcc"] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found["krcc"] == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert found["plcc"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert found["within_prompt_srcc"] == pytest.approx(found["srcc"], abs=1e-12)
    pairs = [(a, b) for a, b in itertools.combinations(range(count), 2) if y[a] != y[b]]
    points = [1.0 if (x[a] - x[b]) * (y[a] - y[b]) > 0 else 0.5 if x[a] == x[b] else 0.0 for a, b in pairs]
    assert found["pairwise_accuracy"] == pytest.approx(np.mean(points))
    both = spearmans(np.column_stack([x, -x, np.ones(count)]), y)
    np.testing.assert_allclose(both[:2], [found["srcc"], -found["srcc"]], atol=1e-12)
    assert math.isnan(both[2])


def test_pairwise_accuracy_over_many_rows_is_one_with_kendall():
    random = np.random.default_rng(0)
    x, y = random.normal(size=2500), random.normal(size=2500)
    assert pairwise_accuracy(x, y) == pytest.approx((1 + stats.kendalltau(x, y).statistic) / 2)


def test_within_a_prompt():
    prompts = ["a", "a", "a", "b", "b", "c", "c", "d"]
    human = np.array([1.0, 2, 3, 5, 4, 7, 7, 9])
    # a: 0.5; b: -1; c has one human score, d one picture: neither counts
    predicted = np.array([1.0, 3, 2, 1, 2, 1, 2, 0])
    assert within_prompt_srcc(predicted, human, prompts) == pytest.approx((0.5 - 1) / 2)
    # a prediction that knows the prompt alone ranks nothing, however good it is between prompts
    prompt_only = np.array([2.0, 2, 2, 4.5, 4.5, 7, 7, 9])
    assert spearman(prompt_only, human) > 0.9
    assert within_prompt_srcc(prompt_only, human, prompts) == 0
    assert math.isnan(within_prompt_srcc(predicted, np.ones(8), prompts))


@quiet
def test_constant_sides_are_undefined():
    flat, values = np.ones(6), np.arange(6.0)
    for predicted, human in ((flat, values), (values, flat)):
        found = correlations(predicted, human, ["p"] * 6)
        assert all(math.isnan(found[name]) for name in ("srcc", "krcc", "plcc", "plcc_logistic"))
    assert correlations(flat, values, ["p"] * 6)["pairwise_accuracy"] == 0.5


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (1e4, -3e5), (1e-4, 7.0)])
def test_the_logistic_straightens_a_logistic(scale, shift):
    x = np.linspace(-3, 5, 200)
    human = 20 + 60 / (1 + np.exp(-(x - 1) / 0.3))
    fitted = fit_logistic(x * scale + shift, human)
    np.testing.assert_allclose(fitted.parameters, (80, 20, 1 * scale + shift, 0.3 * scale), rtol=1e-3)
    assert pearson(x, human) < 0.95 < 0.9999 < pearson(fitted.mapped, human)


def test_the_logistic_does_not_lose_to_a_straight_line():
    random = np.random.default_rng(1)
    for count in (20, 400):
        x = random.normal(size=count)
        human = x + random.normal(size=count)
        found = correlations(x, human, ["p"] * count)
        assert found["logistic_fell_back"] == 0 and found["plcc_logistic"] >= found["plcc"] - 1e-3


def test_an_upside_down_predictor_does_not_look_good():
    x = np.linspace(0, 1, 50)
    with pytest.warns(RuntimeWarning, match="no start led to a rising curve.*plcc_logistic equals plcc"):
        found = correlations(x, -x, ["p"] * 50)
    assert found["plcc_logistic"] == found["plcc"] == pytest.approx(-1) and found["logistic_fell_back"] == 1


def test_no_warning_where_a_logistic_was_fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        correlations(np.arange(30.0), np.sqrt(np.arange(30.0)), ["p"] * 30)


def test_bootstrap_draws_prompts_not_rows():
    random = np.random.default_rng(0)
    prompts = [f"p{i}" for i in range(20) for _ in range(50)]
    level = np.repeat(random.normal(size=20), 50)
    low, high = bootstrap_by_prompt(lambda v: float(v.mean()), prompts, level, samples=400)
    # 1000 rows, but 20 prompts: the error of a mean of 20
    assert high - low == pytest.approx(2 * 1.96 * level.std() / math.sqrt(20), rel=0.15)
    assert bootstrap_by_prompt(lambda v: float(v.mean()), prompts, level, samples=400) == (low, high)
    # paired: what is equal for both cancels
    gap = bootstrap_by_prompt(lambda a, b: float((a - b).mean()), prompts, level + 0.5, level, samples=50)
    assert gap == (pytest.approx(0.5), pytest.approx(0.5))
    draws = bootstrap_draws(lambda v: np.array([v.mean(), v.max()]), prompts, level, samples=400)
    assert draws.shape == (400, 2) and interval(draws[:, 0]) == (low, high)


def test_bad_input():
    values = np.arange(4.0)
    with pytest.raises(ValueError, match=r"human scores and prompts but got \(4,\), \(3,\) and 4"):
        correlations(values, values[:3], ["p"] * 4)
    with pytest.raises(ValueError, match="Expected finite human scores but row 3 is nan"):
        correlations(values, np.array([1.0, 2, 3, math.nan]), ["p"] * 4)
    with pytest.raises(ValueError, match="at least two pairs"):
        correlations(values[:1], values[:1], ["p"])
    with pytest.raises(ValueError, match="at least two prompts"):
        bootstrap_by_prompt(np.mean, ["p"] * 4, values)
    with pytest.raises(ValueError, match="a row for each of the 4 prompts but got lengths 3"):
        bootstrap_by_prompt(np.mean, ["p"] * 4, values[:3])
