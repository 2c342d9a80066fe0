"""Figures over samples with their uncertainty, and whether two models differ by more than chance.

Every figure here is a function of sums over samples: a mean is two sums, BLEU ten. So the bootstrap redraws samples, adds up and
computes again, and two models are compared on the same redrawn samples. Several comparisons are judged together by Holm's rule.
Source: Efron & Tibshirani 1993, chapter 13; Koehn 2004 (ACL W04-3250) for paired redraws; Holm 1979 for several comparisons.
N samples, S sums, D draws.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from danlu.metrics.interval import Estimate, share

Array = npt.NDArray[np.float64]
Better = Literal["higher", "lower", ""]
DRAWS = 2000
_LEVEL = 0.95
_CELLS = 1 << 23  # of the table of redraws held at once, 64 MB


def mean(sums_DS: Array) -> Array:
    """Of (sum of values, count), the mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums_DS[:, 0] / sums_DS[:, 1]


@dataclass(frozen=True)
class Figure:
    """One figure of one model."""

    name: str
    parts_NS: Array
    """What each sample adds to the sums."""
    finish: Callable[[Array], Array] = field(default=mean, compare=False)
    """Sums (D, S) to values (D,)."""
    better: Better = "higher"

    @property
    def value(self) -> float:
        """The figure over all samples."""
        return float(self.finish(self.parts_NS.sum(0, keepdims=True))[0])

    def estimate(self, seed: int = 0, draws: int = DRAWS) -> Estimate:
        """With its standard error and 95 % interval; nan for a single sample, which says nothing about spread."""
        if len(self.parts_NS) < 2:
            return Estimate(self.value, float("nan"), float("nan"), float("nan"))
        found = np.concatenate([self.finish(times @ self.parts_NS) for times in _redraws(len(self.parts_NS), seed, draws)])
        estimate = _estimate(self.value, found)
        if self._one_sided:  # redraws of nothing but misses are misses: Wilson's interval says how many there may be
            low, high = share(round(self.parts_NS[:, 0].sum()), len(self.parts_NS))[1:]
            return Estimate(estimate.value, estimate.standard_error, low, high)
        return estimate

    @property
    def _one_sided(self) -> bool:
        """Whether this is a share, and all samples are hits or all are misses."""
        value, *weight = self.parts_NS.T
        return self.finish is mean and bool((weight[0] == 1).all() and value.min() == value.max() and value[0] in (0.0, 1.0))


def of_values(
    name: str, values: Sequence[float] | Array, better: Better = "higher", weights: Sequence[float] | Array | None = None
) -> Figure:
    """The mean of a value a sample; weights: sizes that the values are sums over (nats over tokens)."""
    value = np.asarray(values, np.float64)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, np.float64)
    return Figure(name, np.stack([value, weight], 1), mean, better)


@dataclass(frozen=True)
class Difference:
    """Second minus first, on the same samples."""

    name: str
    value: Estimate
    p: float
    """How often chance alone would show as much, two-sided."""
    better: Better
    differing: int
    """Samples on which the two are not the same."""


def difference(first: Figure, second: Figure, seed: int = 0, draws: int = DRAWS) -> Difference:
    """How much the second is above the first. Raises ValueError where they are not figures of the same samples.

    p is twice the share of redraws on the other side of zero, and never below what k differing samples can show at all: 2 ** (1
    - k), the least of any test that only swaps the two models sample by sample.
    """
    if first.parts_NS.shape != second.parts_NS.shape:
        raise ValueError(f"{first.name}: {len(first.parts_NS)} and {len(second.parts_NS)} samples are not the same ones")
    count = len(first.parts_NS)
    differing = int((first.parts_NS != second.parts_NS).any(1).sum())
    value = second.value - first.value
    if not differing:
        return Difference(first.name, Estimate(0.0, 0.0, 0.0, 0.0), 1.0, first.better, 0)
    if count < 2:
        nothing = float("nan")
        return Difference(first.name, Estimate(value, nothing, nothing, nothing), 1.0, first.better, differing)
    found = np.concatenate([
        second.finish(times @ second.parts_NS) - first.finish(times @ first.parts_NS) for times in _redraws(count, seed, draws)
    ])  # fmt: skip
    found = found[~np.isnan(found)]
    sides = min(int((found <= 0).sum()), int((found >= 0).sum()))
    p = min(1.0, max(2 * (sides + 1) / (len(found) + 1), 2.0 ** (1 - differing)))
    return Difference(first.name, _estimate(value, found), p, first.better, differing)


def verdicts(differences: Sequence[Difference], level: float = _LEVEL) -> list[str]:
    """A word for each: better, worse, same (no more than chance), or for figures without a better side: more, less.

    All together are wrong about any of them with probability 1 - level at most (Holm 1979).
    """
    order = sorted(range(len(differences)), key=lambda at: differences[at].p)
    found = ["same"] * len(differences)
    for rank, at in enumerate(order):
        if differences[at].p > (1 - level) / (len(order) - rank):
            break
        found[at] = _word(differences[at])
    return found


def note(count: int) -> str:
    """What to know of several comparisons."""
    return (
        f"{count} comparison(s), judged together (Holm): the chance that any 'better' or 'worse' here is luck is 5 % at most. "
        f"The intervals are each by itself, so about one in twenty leaves out the truth."
    )


def _word(found: Difference) -> str:
    up = found.value.value > 0
    if not found.better:
        return "more" if up else "less"
    return "better" if up == (found.better == "higher") else "worse"


def _estimate(value: float, drawn: Array) -> Estimate:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Estimate(value, float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(value, float(drawn.std()), float(low), float(high))


def _redraws(count: int, seed: int, draws: int) -> Iterator[Array]:
    """How often each sample is drawn, (D, N) at a time; the same for every figure of as many samples."""
    random = np.random.default_rng(seed)
    while draws > 0:
        now = min(draws, max(1, _CELLS // count))
        yield random.multinomial(count, np.full(count, 1 / count), size=now).astype(np.float64)
        draws -= now
