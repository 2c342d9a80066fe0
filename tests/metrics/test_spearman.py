"""Rank correlation equals scipy's, ties included; its interval covers and narrows."""

import math

import numpy as np
import pytest

from danlu.metrics.spearman import estimate, ranks, spearman


@pytest.mark.parametrize("seed", range(5))
def test_equals_scipy_with_ties(seed):
    stats = pytest.importorskip("scipy.stats")
    dice = np.random.default_rng(seed)
    one, two = dice.integers(6, size=40).astype(float), dice.normal(size=40).round(1)
    assert spearman(one, two) == pytest.approx(stats.spearmanr(one, two).statistic)
    assert ranks(one).tolist() == stats.rankdata(one).tolist()


def test_only_order_counts():
    one = np.array([3.0, 1.0, 2.0, 9.0])
    assert spearman(one, np.exp(one)) == pytest.approx(1.0) and spearman(one, -(one**3)) == pytest.approx(-1.0)
    assert math.isnan(spearman(one, np.ones(4)))


def test_the_interval_holds_the_value_and_narrows_with_more_pairs():
    dice = np.random.default_rng(0)
    one = dice.normal(size=800)
    two = one + dice.normal(size=800)
    few, many = estimate(one[:50], two[:50]), estimate(one, two)
    assert few.low < few.value < few.high and many.low < many.value < many.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert many.standard_error == pytest.approx((many.high - many.low) / 3.92, rel=0.15)


def test_too_few_pairs_have_no_interval_and_unequal_columns_are_refused():
    assert math.isnan(estimate([1.0, 2.0], [2.0, 1.0]).low)
    with pytest.raises(ValueError, match="equal"):
        spearman([1.0], [1.0, 2.0])
