"""The estimators equal the mean over every choice of k, counted one by one."""

import itertools
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.metrics.pass_at_k import best_of, pass_at_k


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7), st.data())
def test_best_of_is_the_mean_over_all_choices(values, data):
    k = data.draw(st.integers(1, len(values)))
    assert best_of(values, k) == pytest.approx(fmean(max(chosen) for chosen in itertools.combinations(values, k)))


@given(st.integers(1, 60), st.data())
def test_pass_at_k_is_the_best_of_ones_and_zeros_and_that_of_the_paper(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    found = pass_at_k(n, c, k)
    assert found == pytest.approx(best_of([1.0] * c + [0.0] * (n - c), k))
    product = 1.0
    for at in range(n - c + 1, n + 1):  # the paper's own numerically stable form
        product *= 1.0 - k / at
    assert found == pytest.approx(1.0 if n - c < k else 1.0 - product)


@pytest.mark.parametrize("wrong", [(0, 0, 1), (3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_impossible_counts_are_refused(wrong):
    with pytest.raises(ValueError, match="no pass@"):
        pass_at_k(*wrong)
    with pytest.raises(ValueError, match="no best of"):
        best_of([1.0], 2)
