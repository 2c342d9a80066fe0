"""Laws of the count model: equal to its definition, a probability, better with more text."""

import math

import numpy as np
import pytest

from danlu.train import counts


def share_plain(learned, context, token, vocab):
    """The definition, by recursion over ever shorter contexts."""
    if not context:
        seen = learned.count(token)
        kept = sum(max(learned.count(one) - counts.DISCOUNT, 0) for one in range(vocab))
        return (max(seen - counts.DISCOUNT, 0) + (len(learned) - kept) / vocab) / len(learned)
    size = len(context)
    after = [learned[at + size] for at in range(len(learned) - size) if learned[at : at + size] == context]
    shorter = share_plain(learned, context[1:], token, vocab)
    if not after:
        return shorter
    return (max(after.count(token) - counts.DISCOUNT, 0) + counts.DISCOUNT * len(set(after)) * shorter) / len(after)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_counts_agree_with_the_definition(order):
    random = np.random.default_rng(3)
    learned, measured = random.integers(5, size=130), random.integers(5, size=23)
    shares = [
        share_plain(learned.tolist(), measured[at - order + 1 : at].tolist(), int(measured[at]), 5)
        for at in range(order - 1, len(measured))
    ]
    assert counts.bits_per_token(learned, measured, 5, order) == pytest.approx(-np.mean(np.log2(shares)))


def test_shares_of_all_tokens_sum_to_one():
    learned = np.random.default_rng(1).integers(7, size=200)
    context = learned[50:53].tolist()
    assert sum(share_plain(learned.tolist(), context, token, 7) for token in range(7)) == pytest.approx(1)


def test_more_text_of_a_kind_predicts_better():
    random = np.random.default_rng(0)
    table = random.dirichlet(np.full(40, 0.1), size=40)
    ids = [0]
    for _ in range(9000):
        ids.append(int(random.choice(40, p=table[ids[-1]])))
    ids = np.array(ids)
    bits = [counts.bits_per_token(ids[1000 : 1000 + size], ids[:1000], 40) for size in (100, 800, 8000)]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] < math.log2(40) + 1
