"""Spearman's rank correlation with a bootstrap interval: do two columns order the same things alike?"""

import numpy as np
import numpy.typing as npt

from danlu.metrics.interval import Estimate, Numbers


def spearman(first: Numbers, second: Numbers) -> float:
    """Correlation of ranks in -1 to 1, equal values sharing their mean rank; nan where a column has one value only.

    >>> spearman([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 40.0, 30.0])
    0.8
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.ndim != 1 or not len(one):
        raise ValueError(f"expected two rows of equal, positive length, found shapes {one.shape} and {two.shape}")
    return _correlation(ranks(one), ranks(two))


def estimate(first: Numbers, second: Numbers, *, seed: int = 0, draws: int = 1000, level: float = 0.95) -> Estimate:
    """With a percentile bootstrap over the pairs (Efron and Tibshirani 1993, 13.3), and its spread as standard error."""
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    value = spearman(one, two)
    if len(one) < 3:
        return Estimate(value, float("nan"), float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    drawn = [random.integers(len(one), size=len(one)) for _ in range(draws)]
    found = np.array([_correlation(ranks(one[rows]), ranks(two[rows])) for rows in drawn])
    found = found[np.isfinite(found)]
    if not len(found):
        return Estimate(value, float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(found.std()), float(low), float(high))


def ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rank of each value from 1, equal values sharing the mean of theirs.

    >>> ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, number, times = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(times)
    mean: npt.NDArray[np.float64] = (last - (times - 1) / 2)[number]
    return mean


def _correlation(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> float:
    one, two = one - one.mean(), two - two.mean()
    size = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / size if size else float("nan")
