"""Every filter on the shelf: the fast measurement equals the plain one, alone and in company, and its rules fit its signals."""

import math

import numpy as np
import pytest
from tests.data.hostile import HOSTILE, noise

from danlu.data.filters import FILTERS
from danlu.data.texts import Texts

ALL = [*HOSTILE, *noise(1, 40)]


@pytest.mark.parametrize("name", FILTERS.names())
def test_measuring_many_at_once_equals_the_plain_definition(name):
    filter = FILTERS.build(FILTERS[name].Config())
    found = filter.measure(Texts(ALL))
    for document, text in enumerate(ALL):
        for signal, value in filter.measure_plain(text).items():
            same = math.isclose(found[signal][document], value, rel_tol=1e-9, abs_tol=1e-12)
            assert same or (math.isnan(value) and math.isnan(found[signal][document])), (signal, repr(text[:80]))


@pytest.mark.parametrize("name", FILTERS.names())
def test_signals_do_not_depend_on_the_neighbours_in_the_batch(name):
    filter = FILTERS.build(FILTERS[name].Config())
    together = filter.measure(Texts(ALL))
    for document in (0, 5, 7, len(ALL) - 1):
        for signal, values in filter.measure(Texts([ALL[document]])).items():
            np.testing.assert_array_equal(values[0], together[signal][document])


@pytest.mark.parametrize("name", FILTERS.names())
def test_rules_judge_signals_that_are_measured_and_an_empty_batch_measures_nothing(name):
    filter = FILTERS.build(FILTERS[name].Config())
    signals = filter.measure(Texts([]))
    assert {rule.signal for rule in filter.rules()} <= set(signals)
    assert all(len(values) == 0 for values in signals.values())
    assert all(rule.least is not None or rule.most is not None for rule in filter.rules())
