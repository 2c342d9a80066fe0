"""Sums by key do not depend on how the keys came."""

from collections import Counter

import numpy as np

from danlu.data.tally import Tally


def test_blocks_of_any_sizes_give_the_sums_of_a_dictionary():
    dice = np.random.default_rng(1)
    tally, wanted = Tally(), Counter()
    for size in (3, 0, 200, 1, 1, 1, 57, 1000, 2):
        keys, amounts = dice.integers(90, size=size) * 2**40, dice.integers(1, 5, size=size)
        tally.add(keys, amounts)
        for key, amount in zip(keys.tolist(), amounts.tolist(), strict=True):
            wanted[key] += amount
    keys, sums = tally.result()
    assert keys.tolist() == sorted(wanted)
    assert dict(zip(keys.tolist(), sums.tolist(), strict=True)) == wanted


def test_nothing_gives_nothing():
    keys, sums = Tally().result()
    assert keys.tolist() == sums.tolist() == []
