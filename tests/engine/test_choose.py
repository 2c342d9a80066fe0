"""The chooser of many rows against its plain twin, row by row: the same tokens and log-probabilities, to the last bit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.engine.choose import Ask, Chosen, choose, logprobs
from danlu.engine.draw import NoToken, pick
from danlu.engine.draw import logprobs as plain_logprobs
from danlu.engine.request import Sampling
from danlu.engine.samplers import Seen

SIZES = (1, 2, 7, 61, 1500, 5003)
FLOATS = [0.0, -0.0, 1.0, 2.5, -3.75, 20.0, -80.0, 3e38, -3e38, 1e-40, -math.inf]


def plain(row, ask, known):
    """What one ask must be answered with, by the definition; None where no token can be chosen."""
    row = row[:known]
    chain = ask.sampling.chain(ask.ends, ask.allowed is not None)
    try:
        token = pick(row, Seen(ask.ids, ask.begin, ask.allowed), chain, ask.seed, ask.step)
    except NoToken:
        return None
    return Chosen(token) if ask.logprobs is None else Chosen(token, *plain_logprobs(row, token, ask.logprobs))


@st.composite
def samplings(draw, size):
    some = lambda values, default: draw(st.one_of(st.just(default), values))  # noqa: E731
    return Sampling(
        temperature=draw(st.sampled_from([0, 1e-30, 0.3, 0.8, 1, 1.0, 1.7, 50])),
        top_k=some(st.integers(1, size + 2), None), top_p=some(st.floats(1e-6, 1), 1), min_p=some(st.floats(0, 1), 0),
        typical_p=some(st.floats(1e-6, 1), 1), repetition_penalty=some(st.floats(0.2, 3), 1),
        min_tokens=some(st.integers(0, 4), 0),
        frequency_penalty=some(st.floats(-2, 2), 0), presence_penalty=some(st.floats(-2, 2), 0),
        ignore_eos=draw(st.sampled_from([False, False, True])),
        logit_bias=some(st.dictionaries(st.integers(0, size - 1), st.floats(-100, 100), max_size=4), {}),
    )  # fmt: skip


@st.composite
def tables(draw):
    """Rows of logits, two of them padding, and what is asked of each."""
    size, rows = draw(st.sampled_from(SIZES)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    logits = random.normal(0, draw(st.sampled_from([0.01, 2, 30])), (rows, size + 2)).astype(np.float32)
    logits[:, size:] = 1e30
    asks = []
    for row in logits:
        if draw(st.booleans()):
            row[:size] = np.round(row[:size])  # many equals
        spots = draw(st.lists(st.tuples(st.integers(0, size - 1), st.sampled_from(FLOATS)), max_size=5))
        for place, value in spots:
            row[place] = value
        if draw(st.integers(0, 9)) == 0:
            row[draw(st.integers(0, size - 1))] = draw(st.sampled_from([math.nan, math.inf]))
        if draw(st.integers(0, 9)) == 0:
            row[:size] = -math.inf
        length = draw(st.integers(1, 9))
        asks.append(
            Ask(
                sampling=draw(samplings(size)),
                seed=draw(st.integers(-3, 3)),
                step=draw(st.integers(0, 99)),
                ids=random.integers(0, size, length),
                begin=draw(st.integers(0, length)),
                ends=frozenset(draw(st.lists(st.integers(0, size - 1), max_size=2))),
                allowed=draw(st.sampled_from([None, None, random.random(size) < draw(st.sampled_from([0.0, 0.1, 0.9]))])),
                logprobs=draw(st.sampled_from([None, None, 0, 3, 20])),
            )
        )
    return logits, asks, size


@settings(max_examples=120, deadline=None)
@given(tables())
def test_every_row_is_answered_as_by_the_plain_twin(table):
    logits, asks, known = table
    before = logits.copy()
    got = choose(logits, asks, known)
    np.testing.assert_array_equal(logits, before)
    for row, ask, answer in zip(logits, asks, got, strict=True):
        expected = plain(row, ask, known)
        if expected is None:
            assert isinstance(answer, NoToken)
        else:
            assert answer == expected


def real(seed, rows=3, size=50_257):
    return np.random.default_rng(seed).gumbel(0, 2.5, (rows, size)).astype(np.float32)


@pytest.mark.parametrize(
    "sampling",
    [{}, {"temperature": 1}, {"top_k": 40}, {"top_p": 0.9}, {"min_p": 0.05}, {"typical_p": 0.9},
     {"top_k": 30_000, "top_p": 0.999}, {"top_k": 50, "top_p": 0.95, "repetition_penalty": 1.1, "frequency_penalty": 0.2}],
)  # fmt: skip
def test_the_same_over_a_real_vocabulary(sampling):
    logits = real(1)
    ids = np.arange(50, 90)
    for step in range(8):
        asks = [Ask(Sampling(**sampling), seed, step, ids, 30, logprobs=5) for seed in range(3)]
        assert choose(logits, asks) == [plain(row, ask, None) for row, ask in zip(logits, asks, strict=True)]


def test_a_row_that_fails_fails_alone():
    logits = np.zeros((3, 5), np.float32)
    logits[1, 4] = np.nan
    asks = [Ask(Sampling(temperature=0, logit_bias=bias), 0, 0, np.array([1]), 1) for bias in ({}, {}, {99: 1.0})]
    first, second, third = choose(logits, asks)
    assert first == Chosen(0)
    assert isinstance(second, NoToken) and isinstance(third, IndexError)


def test_log_probabilities_are_torchs_and_sum_to_one():
    torch = pytest.importorskip("torch")
    row = real(4, rows=1)[0]
    logprob, top = logprobs(row, 17, len(row))
    expected = torch.tensor(row, dtype=torch.float64).log_softmax(-1)
    np.testing.assert_allclose(logprob, expected[17], atol=1e-6)
    np.testing.assert_allclose([value for _, value in top], expected[[number for number, _ in top]], rtol=1e-6, atol=1e-6)
    assert math.fsum(math.exp(value) for _, value in top) == pytest.approx(1, abs=1e-5)


def test_frequencies_follow_the_models_own_distribution():
    """Chi-square of 20000 draws: what one temperature, no limits and many steps give."""
    from scipy.stats import chisquare

    row = np.random.default_rng(8).normal(0, 1.5, 23).astype(np.float32)
    asks = [Ask(Sampling(temperature=1), 7, step, np.array([0]), 1) for step in range(20_000)]
    drawn = np.bincount([answer.token for answer in choose([row] * len(asks), asks)], minlength=23)
    chances = np.exp(row.astype(np.float64))
    assert chisquare(drawn, chances / chances.sum() * drawn.sum()).pvalue > 1e-3
