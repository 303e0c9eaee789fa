"""What an evaluation found: predictions of every row in every split, their statistics, gaps and intervals."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward.statistics.correlations import STATISTICS, bootstrap_draws, correlations, interval, spearmans

SAMPLES = 1000


@dataclass(frozen=True)
class Gap:
    """How much higher the test SRCC of `row` is than that of `versus`: mean over splits, 95 % interval over prompts."""

    row: str
    versus: str
    srcc: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One line of a table: means over splits, deviation of SRCC between splits, 95 % interval of its mean."""

    name: str
    is_control: bool
    splits: int
    means: dict[str, float]
    srcc_std: float
    srcc_low: float
    srcc_high: float


@dataclass
class Evaluation:
    """Predictions of every row in every split, and what follows from them.

    Args:
        protocol: single-database, cross-database, ablation or saved-model.
        trained_on, tested_on: names of data sets.
        notes: what a reader has to know.
    """

    protocol: str
    trained_on: str
    tested_on: str
    notes: list[str] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    # name of a row -> its test predictions over all splits, in the order of `pairs`
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    controls: set[str] = field(default_factory=set)
    pairs: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, split: int, prompts: Sequence[str], human: np.ndarray, predicted: Mapping[str, np.ndarray]) -> None:
        """Take in the test predictions of one split; the rows must be the same in every split."""
        new = {"split": np.full(len(human), split), "prompt": np.array(prompts, dtype=object), "human": human}
        self.pairs = {k: np.concatenate([self.pairs[k], v]) if self.pairs else v for k, v in new.items()}
        for name, values in predicted.items():
            earlier = self.predictions.get(name)
            self.predictions[name] = values if earlier is None else np.concatenate([earlier, values])
            with warnings.catch_warnings():
                # told once for a row, by `summarise`
                warnings.filterwarnings("ignore", "No logistic was fitted", RuntimeWarning)
                statistics = correlations(values, human, prompts)
            self.runs.append({"row": name, "split": split, "pairs": len(human), **statistics})

    def summarise(self, gaps: Sequence[tuple[str, str]], samples: int = SAMPLES) -> "Evaluation":
        """Fill `rows` and `gaps` (pairs of names of rows) from what was added."""
        names = list(self.predictions)
        columns = np.column_stack([self.predictions[name] for name in names])
        prompts, split, human = self.pairs["prompt"], self.pairs["split"], self.pairs["human"]

        def mean_srcc(columns: np.ndarray, human: np.ndarray, split: np.ndarray) -> np.ndarray:
            return np.mean([spearmans(columns[split == s], human[split == s]) for s in np.unique(split)], axis=0)

        whole = dict(zip(names, mean_srcc(columns, human, split), strict=True))
        draws = bootstrap_draws(mean_srcc, prompts, columns, human, split, samples=samples)
        drawn = dict(zip(names, draws.T, strict=True))
        for name in names:
            runs = [run for run in self.runs if run["row"] == name]
            means = {s: float(np.mean([run[s] for run in runs])) for s in STATISTICS}
            std = float(np.std([run["srcc"] for run in runs], ddof=1)) if len(runs) > 1 else math.nan
            self.rows.append(Row(name, name in self.controls, len(runs), means, std, *interval(drawn[name])))
            if fallen := sum(run["logistic_fell_back"] for run in runs):
                self.notes.append(
                    f"{name}: no rising logistic could be fitted in {fallen:.0f} of {len(runs)} splits; its PLCC after "
                    "the logistic is the raw PLCC there"
                )
        for name, versus in gaps:
            gap = float(whole[name] - whole[versus])
            self.gaps.append(Gap(name, versus, gap, *interval(drawn[name] - drawn[versus])))
        return self
