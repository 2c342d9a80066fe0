"""Perplexity and word counts against worked examples."""

import math

import numpy as np
import pytest

from danlu.metrics.perplexity import perplexity, perplexity_error, word_count


def test_a_uniform_choice_among_seven_has_perplexity_seven():
    assert perplexity(3 * math.log(7), 3) == pytest.approx(7.0)


def test_perplexity_is_the_geometric_mean_of_inverse_probabilities():
    chances = [0.5, 0.25, 0.125]  # product 1/64, third root 1/4
    assert perplexity(-sum(map(math.log, chances)), 3) == pytest.approx(4.0)


def test_no_units_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        perplexity(1.0, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("  \n\t", 0), ("one two\nthree", 3), ("don't  stop", 2), ("学而时习之", 5), ("用GPU训练", 4), ("日本語 text", 4)],
)
def test_words_are_runs_between_spaces_and_single_han_characters(text, words):
    assert word_count(text) == words


def test_the_standard_error_is_the_spread_of_many_draws():
    random = np.random.default_rng(5)
    draws = []
    for _ in range(400):
        counts = random.integers(20, 60, size=90)
        nats = counts * random.normal(2.0, 0.3, size=90)
        draws.append((perplexity(nats.sum(), counts.sum()), perplexity_error(nats, counts)))
    values, errors = np.array(draws).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.1)
    assert math.isnan(perplexity_error([3.0], [2.0]))
