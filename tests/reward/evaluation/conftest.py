"""A small evaluation with a row, a control and a row of constants."""

import numpy as np
import pytest

from reward.evaluation.result import Evaluation


@pytest.fixture
def found():
    random = np.random.default_rng(0)
    result = Evaluation("ablation", "here", "there", notes=["a note"], controls={"blind"})
    for split in range(2):
        prompts = [f"p{i % 8}" for i in range(40)]
        human = random.normal(size=40)
        rows = {"full | x": human + random.normal(size=40), "blind": -human, "flat": np.ones(40)}
        result.add(split, prompts, human, rows)
    return result.summarise([("full | x", "blind")], samples=30)
