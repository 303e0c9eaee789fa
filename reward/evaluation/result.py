"""The result of an evaluation: predictions of every row in every split, their statistics, gaps and intervals."""

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
    """Test SRCC of `row` minus that of `versus`: mean over splits, with a 95 % interval over prompts."""

    row: str
    versus: str
    srcc: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One row of the table: means over splits; standard deviation of SRCC over splits; 95 % interval of its mean."""

    name: str
    is_control: bool
    splits: int
    means: dict[str, float]
    srcc_std: float
    srcc_low: float
    srcc_high: float


@dataclass
class Evaluation:
    """The predictions of every row in every split, and the statistics computed from them.

    Args:
        protocol: single-database, cross-database, ablation or saved-model.
        trained_on, tested_on: names of the data sets.
        notes: remarks to print with the table.
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
        """Add the test predictions of one split.

        Args:
            split: number of the split.
            prompts: N prompts of the test pairs.
            human: their human scores, (N,).
            predicted: predictions (N,) by name of the row; every split must have the same rows.
        """
        new = {"split": np.full(len(human), split), "prompt": np.array(prompts, dtype=object), "human": human}
        self.pairs = {k: np.concatenate([self.pairs[k], v]) if self.pairs else v for k, v in new.items()}
        for name, values in predicted.items():
            earlier = self.predictions.get(name)
            self.predictions[name] = values if earlier is None else np.concatenate([earlier, values])
            with warnings.catch_warnings():
                # `summarise` reports this once per row
                warnings.filterwarnings("ignore", "No logistic was fitted", RuntimeWarning)
                statistics = correlations(values, human, prompts)
            self.runs.append({"row": name, "split": split, "pairs": len(human), **statistics})

    def summarise(self, gaps: Sequence[tuple[str, str]], samples: int = SAMPLES) -> "Evaluation":
        """Fill `rows` and `gaps` from the added predictions; returns self.

        Args:
            gaps: pairs of names of rows (row, versus).
            samples: number of bootstrap draws.
        """
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
                    f"{name}: no rising logistic could be fitted in {fallen:.0f} of {len(runs)} splits; in those, the "
                    "PLCC after the logistic is the PLCC without it"
                )
        for name, versus in gaps:
            gap = float(whole[name] - whole[versus])
            self.gaps.append(Gap(name, versus, gap, *interval(drawn[name] - drawn[versus])))
        return self
