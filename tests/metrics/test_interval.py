"""Intervals against hand-worked examples and against simulation."""

import math

import numpy as np
import pytest

from danlu.metrics.interval import paired_difference, ratio, ratio_error


def test_with_clusters_of_one_it_is_the_textbook_standard_error_of_a_mean():
    values = [1.0, 2.0, 4.0, 5.0, 8.0]
    expected = np.std(values, ddof=1) / math.sqrt(5)
    assert ratio_error(values, [1.0] * 5) == pytest.approx(expected)


def test_a_hand_worked_ratio():
    """Amounts 1, 5 over sizes 1, 3: ratio 1.5, left over -0.5 and 0.5, error sqrt(2/1 * 0.5) / 4 = 0.25."""
    found = ratio([1.0, 5.0], [1.0, 3.0])
    assert found.value == pytest.approx(1.5)
    assert found.standard_error == pytest.approx(0.25)


def test_copying_each_token_inside_its_cluster_does_not_make_us_surer():
    amounts, sizes = np.array([3.0, 5.0, 4.0]), np.array([2.0, 3.0, 2.0])
    assert ratio_error(amounts * 10, sizes * 10) == pytest.approx(ratio_error(amounts, sizes))


def test_one_cluster_says_nothing_about_spread():
    found = ratio([3.0], [2.0])
    assert found.value == 1.5
    assert math.isnan(found.standard_error) and math.isnan(found.low)


def test_the_error_matches_the_spread_of_repeated_samples():
    random = np.random.default_rng(0)

    def sample():
        sizes = random.integers(20, 60, 40).astype(float)
        return sizes * random.normal(2.0, 0.5, 40), sizes

    spread = np.std([amount.sum() / size.sum() for amount, size in (sample() for _ in range(2000))])
    errors = [ratio_error(*sample()) for _ in range(200)]
    assert np.mean(errors) == pytest.approx(spread, rel=0.1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        sizes = random.integers(20, 60, 40).astype(float)
        found = ratio(sizes * random.normal(2.0, 0.5, 40), sizes, seed=trial, draws=300)
        hits += found.low <= 2.0 <= found.high
    assert 0.88 <= hits / 300 <= 0.99


def test_pairing_cancels_the_difficulty_that_both_share():
    random = np.random.default_rng(2)
    sizes = np.full(50, 100.0)
    hard = random.normal(300.0, 60.0, 50)
    first, second = hard + random.normal(5.0, 1.0, 50), hard
    paired = paired_difference(first, second, sizes)
    unpaired = math.hypot(ratio_error(first, sizes), ratio_error(second, sizes))
    assert paired.value == pytest.approx(0.05, abs=0.005)
    assert paired.standard_error < unpaired / 20
    assert paired.low > 0


def test_the_same_seed_gives_the_same_interval():
    sizes = np.arange(1.0, 8.0)
    assert ratio(sizes**1.5, sizes, seed=3) == ratio(sizes**1.5, sizes, seed=3)


@pytest.mark.parametrize(("amounts", "sizes"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0])])
def test_impossible_input_is_refused(amounts, sizes):
    with pytest.raises(ValueError):
        ratio(amounts, sizes)
