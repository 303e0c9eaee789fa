"""Agreement of predicted with human scores: correlations, pairwise accuracy, confidence intervals over prompts."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# rows of the comparison matrix that pairwise_accuracy computes at once
_ROWS = 1024
STATISTICS = ("srcc", "krcc", "plcc", "plcc_logistic", "pairwise_accuracy", "within_prompt_srcc")


def correlations(predicted: np.ndarray, human: np.ndarray, prompts: Sequence[str]) -> dict[str, float]:
    """All statistics that an evaluation reports, for N pairs.

    Args:
        predicted, human: (N,), any scale, finite.
        prompts: N strings; equal strings are one prompt.

    Returns:
        srcc (Spearman), krcc (Kendall's tau-b), plcc (Pearson) and plcc_logistic (Pearson after the 4-parameter
        logistic), each in [-1, 1]; pairwise_accuracy in [0, 1]; within_prompt_srcc in [-1, 1]. A statistic is NaN
        where it is not defined: one side is constant, or no prompt has two different human scores.
        `logistic_fell_back` is 1.0 if no logistic could be fitted and plcc_logistic equals plcc, else 0.0.

    Raises:
        ValueError: the lengths differ, there are fewer than two pairs, or a value is not finite.

    Example:
        >>> correlations(np.array([1.0, 2, 3]), np.array([1.0, 3, 2]), ["a", "a", "a"])["srcc"]
        0.5
    """
    from scipy import stats

    predicted, human = _checked(predicted, human, prompts)
    plcc = pearson(predicted, human)
    fitted = fit_logistic(predicted, human)
    defined = not (_constant(predicted) or _constant(human))
    return {
        "srcc": spearman(predicted, human),
        "krcc": float(stats.kendalltau(predicted, human).statistic) if defined else math.nan,
        "plcc": plcc,
        "plcc_logistic": plcc if fitted.parameters is None else pearson(fitted.mapped, human),
        "pairwise_accuracy": pairwise_accuracy(predicted, human),
        "within_prompt_srcc": within_prompt_srcc(predicted, human, prompts),
        "logistic_fell_back": float(fitted.parameters is None),
    }


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation of (N,) values, with average ranks for ties; NaN if one side is constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(x), rankdata(y))


def spearmans(predicted: np.ndarray, human: np.ndarray) -> np.ndarray:
    """`spearman` of each column of (N, K) predictions with (N,) human scores; returns (K,)."""
    from scipy.stats import rankdata

    if len(human) < 2:
        return np.full(predicted.shape[1], math.nan)
    a, b = rankdata(predicted, axis=0), rankdata(human)
    a, b = a - a.mean(0), b - b.mean()
    norms = np.sqrt(np.square(a).sum(0) * (b @ b))
    with np.errstate(invalid="ignore"):
        return np.clip(np.where(norms > 0, b @ a / norms, math.nan), -1, 1)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of (N,) values; NaN if one side is constant."""
    if _constant(x) or _constant(y):
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    return float(np.clip(a @ b / math.sqrt((a @ a) * (b @ b)), -1, 1))


def pairwise_accuracy(predicted: np.ndarray, human: np.ndarray) -> float:
    """Share of pairs that the prediction orders as the human scores do, in [0, 1]. A predicted tie counts half.

    Pairs with equal human scores are ignored. Without ties the share is (1 + Kendall's tau) / 2. It is NaN if all human
    scores are equal.

    Args:
        predicted, human: (N,).

    Example:
        >>> pairwise_accuracy(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        1.0
    """
    right = counted = 0.0
    for start in range(0, len(human), _ROWS):
        rows = slice(start, start + _ROWS)
        # each unordered pair occurs twice, once with human > other
        better = human[rows, None] > human[None, :]
        gap = predicted[rows, None] - predicted[None, :]
        right += (better & (gap > 0)).sum() + 0.5 * (better & (gap == 0)).sum()
        counted += better.sum()
    return float(right / counted) if counted else math.nan


def within_prompt_srcc(predicted: np.ndarray, human: np.ndarray, prompts: Sequence[str]) -> float:
    """Mean over prompts of Spearman's correlation between the images of one prompt, in [-1, 1].

    Prompts whose images all have the same human score are ignored. A prompt with a constant prediction counts 0. The
    result is NaN if no prompt is left.

    Args:
        predicted, human: (N,).
        prompts: N strings; equal strings are one prompt.
    """
    found = []
    for rows in prompt_rows(prompts):
        if not _constant(human[rows]):
            srcc = spearman(predicted[rows], human[rows])
            found.append(0.0 if math.isnan(srcc) else srcc)
    return float(np.mean(found)) if found else math.nan


class LogisticFit(NamedTuple):
    """Parameters (top, bottom, centre, width) and mapped predictions (N,). Parameters are None if no fit was found."""

    parameters: tuple[float, float, float, float] | None
    mapped: np.ndarray


def fit_logistic(predicted: np.ndarray, human: np.ndarray) -> LogisticFit:
    """Fit VQEG's 4-parameter logistic, bottom + (top - bottom) / (1 + exp(-(x - centre) / width)), by least squares.

    As is usual, the curve is fitted to the same pairs that are then measured, so the correlation is slightly too high.
    Only rising curves are allowed. With a falling curve, a predictor that ranks in reverse would look good. The fit
    runs from several starts, and the best result is kept. No fit is found for constant values, fewer than five pairs,
    or a predictor that does not rise. Then a RuntimeWarning says why, and the predictions are returned unchanged.

    Args:
        predicted, human: (N,).
    """
    why = None
    if len(predicted) < 5:
        why = f"{len(predicted)} pairs are too few for 4 parameters"
    elif _constant(predicted) or _constant(human):
        why = "all predictions or all human scores are equal"
    else:
        best = _best_logistic(predicted, human)
        if best is not None:
            return best
        why = "no start led to a rising curve"
    warnings.warn(f"No logistic was fitted ({why}); plcc_logistic equals plcc", RuntimeWarning, stacklevel=3)
    return LogisticFit(None, predicted)


def _best_logistic(predicted: np.ndarray, human: np.ndarray) -> LogisticFit | None:
    from scipy.optimize import OptimizeWarning, curve_fit
    from scipy.special import expit

    # in standard units the same starts and bounds fit every scale
    mean, std, low, span = predicted.mean(), predicted.std(), human.min(), np.ptp(human)
    x, y = (predicted - mean) / std, (human - low) / span

    def curve(x: np.ndarray, bottom: float, height: float, centre: float, width: float) -> np.ndarray:
        return bottom + height * expit((x - centre) / width)

    def slopes(x: np.ndarray, bottom: float, height: float, centre: float, width: float) -> np.ndarray:
        share = expit((x - centre) / width)
        along = height * share * (1 - share) / width
        return np.column_stack([np.ones_like(x), share, -along, -along * (x - centre) / width])

    # finite bounds, because nearly linear data would send all parameters to infinity together
    bounds = ([-20.0, 0.0, -20.0, 1e-3], [20.0, 40.0, 20.0, 20.0])
    # the last start is nearly a straight line: a logistic with a large width
    starts = [(0.0, 1.0, 0.0, 0.25), (0.0, 1.0, float(np.median(x)), 1.0), (-0.5, 2.0, 0.0, 2.0)]
    best, best_error = None, np.inf
    for start in starts:
        try:
            with warnings.catch_warnings():
                # the warning says that the covariance of the parameters is unknown; it is not used
                warnings.simplefilter("ignore", OptimizeWarning)
                stop = {"max_nfev": 500, "ftol": 1e-6, "xtol": 1e-6}
                found, _ = curve_fit(curve, x, y, p0=start, bounds=bounds, jac=slopes, **stop)
        except (RuntimeError, ValueError):
            continue
        error = float(np.square(curve(x, *found) - y).sum())
        if np.isfinite(error) and error < best_error:
            best, best_error = found, error
    if best is None:
        return None
    bottom, height, centre, width = (float(v) for v in best)
    mapped = curve(x, *best) * span + low
    if height < 1e-6 or _constant(mapped):
        return None
    return LogisticFit(((bottom + height) * span + low, bottom * span + low, centre * std + mean, width * std), mapped)


def bootstrap_by_prompt(
    statistic: Callable[..., float],
    prompts: Sequence[str],
    *arrays: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of `statistic(*arrays)`: prompts are resampled, each with all its rows.

    The rows of a prompt are not independent, so resampling rows would give intervals that are too narrow. All arrays
    use the same rows in a draw, so the statistic can be a paired difference between two predictors.

    Args:
        statistic: takes the arrays of the drawn rows; draws for which it is NaN are ignored.
        prompts: the prompt of each of N rows.
        arrays: (N, ...) each.
        samples: number of draws.
        seed: seed of the draws.
        level: share of the draws inside the interval, in (0, 1).

    Returns:
        (low, high); NaN if the statistic was NaN in every draw.

    Raises:
        ValueError: the lengths differ, or there are fewer than two prompts.

    Example:
        >>> bootstrap_by_prompt(lambda a, b: float(np.mean(a - b)), ["x", "y"], np.array([2, 2]), np.array([1, 1]))
        (1.0, 1.0)
    """
    return interval(bootstrap_draws(statistic, prompts, *arrays, samples=samples, seed=seed), level)


def bootstrap_draws(
    statistic: Callable[..., float | np.ndarray],
    prompts: Sequence[str],
    *arrays: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """The draws of `bootstrap_by_prompt`: (samples,), or (samples, K) for a statistic that returns (K,) values.

    All columns of a draw use the same rows, so the difference of two columns is paired. Errors as
    `bootstrap_by_prompt`.
    """
    if any(len(array) != len(prompts) for array in arrays):
        raise ValueError(
            f"Expected arrays with a row for each of the {len(prompts)} prompts but got lengths "
            f"{', '.join(str(len(array)) for array in arrays)}"
        )
    groups = prompt_rows(prompts)
    if len(groups) < 2:
        raise ValueError(f"Expected at least two prompts to draw from but got {len(groups)}")
    random = np.random.default_rng(seed)
    values = []
    for _ in range(samples):
        rows = np.concatenate([groups[i] for i in random.integers(len(groups), size=len(groups))])
        values.append(statistic(*(array[rows] for array in arrays)))
    return np.array(values, dtype=float)


def interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central `level` interval (low, high) of (samples,) draws. NaN draws are ignored; NaN if all are NaN."""
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def prompt_rows(prompts: Sequence[str]) -> list[np.ndarray]:
    """The row numbers of each distinct prompt, one array per prompt."""
    _, groups = np.unique(np.asarray(prompts, dtype=object).astype(str), return_inverse=True)
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.cumsum(np.bincount(groups))[:-1]) if len(groups) else []


def _constant(values: np.ndarray) -> bool:
    return len(values) < 2 or bool(np.ptp(values) == 0)


def _checked(predicted, human, prompts) -> tuple[np.ndarray, np.ndarray]:
    predicted, human = np.asarray(predicted, dtype=float), np.asarray(human, dtype=float)
    if predicted.ndim != 1 or predicted.shape != human.shape or len(prompts) != len(human):
        raise ValueError(
            f"Expected as many predictions as human scores and prompts but got {predicted.shape}, {human.shape} and "
            f"{len(prompts)}"
        )
    if len(human) < 2:
        raise ValueError(f"Expected at least two pairs to correlate but got {len(human)}")
    for name, values in (("predictions", predicted), ("human scores", human)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"Expected finite {name} but row {row} is {values[row]}")
    return predicted, human
