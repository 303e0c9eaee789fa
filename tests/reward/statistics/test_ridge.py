import numpy as np
import pytest

from reward.statistics.correlations import spearman
from reward.statistics.ridge import fit_ridge


def data(seed, count=300, dim=8):
    random = np.random.default_rng(seed)
    image, text = random.normal(size=(count, dim)), random.normal(size=(count, dim))
    cosine = (image * text).sum(1) / np.linalg.norm(image, axis=1) / np.linalg.norm(text, axis=1)
    return image, text, cosine, random


@pytest.mark.parametrize("truth, winner", [("image", "image"), ("text", "additive"), ("pair", "cosine")])
def test_each_finds_what_it_can_see(truth, winner):
    parts = []
    for seed in range(3):
        image, text, cosine, _ = data(seed)
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)]
        parts.append((image, text, {"image": unit[0][:, 0], "text": unit[1][:, 0], "pair": cosine}[truth]))
    srcc = {
        terms: spearman(fit_ridge(terms, *parts[0], parts[1]).predict(*parts[2][:2]), parts[2][2])
        for terms in ("image", "additive", "cosine")
    }
    assert srcc[winner] > 0.95
    order = ("image", "additive", "cosine")
    assert all(srcc[terms] < 0.3 for terms in order[: order.index(winner)])


def test_it_is_ridge():
    image, text, _, random = data(0, count=60, dim=4)
    scores = random.normal(size=60)
    model = fit_ridge("image", image, text, scores, (image, text, scores))
    unit = image / np.linalg.norm(image, axis=1, keepdims=True)
    x = np.column_stack([(unit - unit.mean(0)) / model.std[0]])
    found = [
        x @ np.linalg.solve(x.T @ x + penalty * np.eye(4), x.T @ (scores - scores.mean())) + scores.mean()
        for penalty in np.logspace(-2, 5, 15)
    ]
    predicted = model.predict(image, text)
    assert min(np.abs(f - predicted).max() for f in found) < 1e-9
