"""Errors of figures and verdicts on differences: known distributions, known tests, and nothing where nothing differs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from danlu.evaluate.paired import Figure, difference, mean, of_values, verdicts
from danlu.metrics.interval import share

VALUES = st.lists(st.floats(-5, 5), min_size=2, max_size=30)


def test_the_error_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = of_values("x", values).estimate()
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std() / 20, rel=0.05)
    low, high = stats.norm.interval(0.95, values.mean(), values.std() / 20)
    assert found.low == pytest.approx(low, abs=0.03) and found.high == pytest.approx(high, abs=0.03)


def test_a_share_of_all_or_none_has_an_interval_that_is_no_point():
    assert of_values("x", [0.0] * 20).estimate().high == share(0, 20)[2] > 0.1
    assert of_values("x", [1.0] * 20).estimate().low == share(20, 20)[1] < 0.9


@given(VALUES)
def test_two_identical_runs_are_the_same(values):
    one, two = of_values("x", values), of_values("x", values)
    gap = difference(one, two)
    assert gap.value.value == 0 == gap.value.standard_error and gap.p == 1 and verdicts([gap]) == ["same"]


@given(VALUES, st.floats(-3, 3))
def test_swapping_the_models_turns_the_verdict_round(values, shift):
    one = of_values("x", values)
    two = of_values("x", np.array(values) + shift + np.linspace(-0.1, 0.1, len(values)))
    there, back = difference(one, two), difference(two, one)
    assert there.value.value == pytest.approx(-back.value.value) and there.p == pytest.approx(back.p, abs=0.02)
    turned = {"better": "worse", "worse": "better", "same": "same"}
    if min(abs(there.p - 0.05), abs(back.p - 0.05)) > 0.02:
        assert verdicts([back]) == [turned[verdicts([there])[0]]]


def test_chance_alone_is_called_same_19_times_in_20():
    random = np.random.default_rng(1)
    words = []
    for _ in range(200):
        hits = random.random((2, 60)) < 0.4
        words += verdicts([difference(of_values("x", hits[0].astype(float)), of_values("x", hits[1].astype(float)), draws=500)])
    assert 0.88 <= words.count("same") / 200 <= 0.99


def test_a_clear_difference_is_found_where_pairing_shows_it():
    random = np.random.default_rng(2)
    hard = random.normal(0, 10, 80)
    one, two = of_values("loss", hard, "lower"), of_values("loss", hard - 0.3 + random.normal(0, 0.3, 80), "lower")
    assert stats.ttest_ind(one.parts_NS[:, 0], two.parts_NS[:, 0]).pvalue > 0.3  # what is not paired sees nothing
    assert verdicts([difference(one, two)]) == ["better"] and verdicts([difference(two, one)]) == ["worse"]
    length = [Figure("length", figure.parts_NS, mean, "") for figure in (one, two)]
    assert verdicts([difference(*length)]) == ["less"]


def test_few_differing_samples_prove_nothing():
    one = of_values("x", [0.0] * 50)
    for hits in (1, 3, 5):
        gap = difference(one, of_values("x", [1.0] * hits + [0.0] * (50 - hits)))
        assert gap.differing == hits and gap.p >= 2 ** (1 - hits) == stats.binomtest(hits, hits).pvalue
        assert verdicts([gap]) == ["same"]
    assert verdicts([difference(one, of_values("x", [1.0] * 9 + [0.0] * 41))]) == ["better"]


def test_many_comparisons_are_judged_together():
    base = of_values("x", np.zeros(40))
    weak = of_values("x", [1.0] * 7 + [0.0] * 33)  # p about 2 ** -6
    gap = difference(base, weak)
    assert verdicts([gap]) == ["better"] and verdicts([gap] + [difference(base, base)] * 9) == ["same"] * 10
    strong = difference(base, of_values("x", np.ones(40)))
    assert verdicts([strong, gap]) == ["better", "better"]  # Holm steps down: the second needs 0.05 only


def test_figures_of_sums_and_of_single_samples():
    nats, bytes_ = np.array([3.0, 5.0, 1.0]), np.array([2.0, 4.0, 1.0])
    assert of_values("bits", nats, "lower", bytes_).value == pytest.approx(9 / 7)
    assert math.isnan(of_values("x", [1.0]).estimate().low)
    assert difference(of_values("x", [1.0]), of_values("x", [2.0])).p == 1
    with pytest.raises(ValueError, match="not the same"):
        difference(of_values("x", [1.0]), of_values("x", [2.0, 3.0]))
