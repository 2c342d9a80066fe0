"""How sure a measured figure is: standard errors over clusters, bootstrap intervals, paired differences.

Tokens of one document are not independent, so the unit of chance here is the cluster (a document, or a block of one).
Source: Cochran, Sampling Techniques (1977), 6.3 (ratio estimator); Efron and Tibshirani (1993), 13.3 (percentile bootstrap);
Miller 2024 (arXiv:2411.00640) on clustered and paired errors in evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty; `standard_error` is nan where one cluster says nothing about spread."""

    value: float
    standard_error: float
    low: float
    high: float


def ratio(amounts: Numbers, sizes: Numbers, *, seed: int = 0, draws: int = 1000, level: float = 0.95) -> Estimate:
    """Sum of amounts over sum of sizes, both given by cluster, (C,) each.

    The standard error treats clusters as independent draws; the interval is a percentile bootstrap over clusters.
    Raises ValueError for unequal lengths, no clusters, or sizes that do not add up to something positive.

    >>> found = ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    >>> found.value, found.standard_error
    (2.0, 0.0)
    """
    amount, size = _columns(amounts, sizes)
    value = float(amount.sum() / size.sum())
    low, high = _bootstrap(amount, size, seed, draws, level)
    return Estimate(value, ratio_error(amount, size), low, high)


def ratio_error(amounts: Numbers, sizes: Numbers) -> float:
    """Linearised standard error of sum(amounts) / sum(sizes) over C clusters; nan for a single one."""
    amount, size = _columns(amounts, sizes)
    clusters = len(amount)
    if clusters < 2:
        return float("nan")
    left_over = amount - amount.sum() / size.sum() * size
    return float(np.sqrt(clusters / (clusters - 1) * np.square(left_over).sum()) / size.sum())


def paired_difference(
    first: Numbers, second: Numbers, sizes: Numbers, *, seed: int = 0, draws: int = 1000, level: float = 0.95
) -> Estimate:
    """First minus second on the same clusters: what the shared difficulty of a text would hide is cancelled out.

    first, second, sizes: (C,) each; the two ratios share their sizes.
    """
    one, size = _columns(first, sizes)
    two, _ = _columns(second, sizes)
    return ratio(one - two, size, seed=seed, draws=draws, level=level)


def share(hits: int, trials: int, z: float = 1.96) -> tuple[float, float, float]:
    """A share of independent trials and its 95 % interval, which says something at none and at all too.

    Source: Wilson 1927, the score interval. Raises ValueError without trials.

    >>> [round(figure, 3) for figure in share(0, 20)], [round(figure, 3) for figure in share(15, 20)]
    ([0.0, 0.0, 0.161], [0.75, 0.531, 0.888])
    """
    if not 0 <= hits <= trials or not trials:
        raise ValueError(f"{hits} of {trials} is no share")
    found, wide = hits / trials, z * z / trials
    middle = (found + wide / 2) / (1 + wide)
    half = z / (1 + wide) * ((found * (1 - found) + wide / 4) / trials) ** 0.5
    return found, max(middle - half, 0.0), min(middle + half, 1.0)


def resampled(
    statistic: Callable[[npt.NDArray[np.int64]], float], count: int, *, seed: int = 0, draws: int = 1000, level: float = 0.95
) -> Estimate:
    """Any figure of `count` samples: `statistic(places)` on all of them, and its percentile bootstrap over redrawn places.

    >>> found = resampled(lambda places: float(np.array([0.0, 1.0])[places].mean()), 2, draws=200)
    >>> found.value, found.low, found.high
    (0.5, 0.0, 1.0)
    """
    value = statistic(np.arange(count))
    if count < 2:
        return Estimate(value, float("nan"), float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    found = np.array([statistic(random.integers(0, count, count)) for _ in range(draws)])
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2]) if np.isfinite(found).any() else (np.nan, np.nan)
    return Estimate(value, float(np.nanstd(found)), float(low), float(high))


def _bootstrap(
    amount: npt.NDArray[np.float64], size: npt.NDArray[np.float64], seed: int, draws: int, level: float
) -> tuple[float, float]:
    clusters = len(amount)
    if clusters < 2:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    times_DC = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)  # how often each cluster is drawn
    drawn = times_DC @ size
    found = (times_DC @ amount)[drawn > 0] / drawn[drawn > 0]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _columns(amounts: Numbers, sizes: Numbers) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    amount, size = np.asarray(amounts, np.float64), np.asarray(sizes, np.float64)
    if amount.shape != size.shape or amount.ndim != 1 or not len(amount):
        raise ValueError(f"expected two rows of equal, positive length, found shapes {amount.shape} and {size.shape}")
    if size.sum() <= 0:
        raise ValueError("the sizes of all clusters add up to nothing, so a ratio to them is not defined")
    return amount, size
