"""The law of packing: over the endless stream every pair of every document comes once an epoch, padded nowhere."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DatasetTooSmall
from danlu.data.pack import Packer, WholePacker, fit


class Memory:
    """A token set in memory: document d holds the numbers 1000 d, 1000 d + 1, ..."""

    def __init__(self, lengths):
        self.lengths = np.array(lengths, np.int64)

    def __len__(self):
        return len(self.lengths)

    def document(self, index, start=0, stop=None):
        return np.arange(self.lengths[index])[start:stop] + 1000 * index


LENGTHS = [5, 2, 41, 3, 1, 7, 19, 0, 2, 11]


def pairs_of(row):
    """(document, target position) of each pair, by what the row says of itself."""
    return [(d, p + 1 + k) for d, p, n in row.origin.tolist() for k in range(n)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 17), st.integers(0, 5))
def test_every_pair_comes_exactly_once_an_epoch(lengths, row_tokens, seed):
    tokens = Memory(lengths)
    every = Counter((d, p) for d, n in enumerate(lengths) for p in range(1, n))
    if not every:
        with pytest.raises(DatasetTooSmall):
            Packer(tokens, row_tokens, seed)
        return
    packer = Packer(tokens, row_tokens, seed)
    epochs = 3
    rows = [packer.cut(k * row_tokens) for k in range(packer.first_row(epochs))]
    stream = [pair for row in rows for pair in pairs_of(row)]
    for epoch in range(epochs):
        part = stream[epoch * packer.pairs_per_epoch : (epoch + 1) * packer.pairs_per_epoch]
        assert Counter(part) == every
    served = [packer.served(number) for number in range(packer.first_row(epochs))]
    assert Counter(row.ids.tobytes() + row.targets.tobytes() for row in served) == Counter(
        row.ids.tobytes() + row.targets.tobytes() for row in rows
    ), "serving permutes rows within epochs and loses none"


def test_a_row_is_what_its_origin_says():
    packer = Packer(Memory(LENGTHS), 13, seed=3)
    for number in range(3 * packer.rows_per_epoch):
        row = packer.served(number)
        assert row.ids.shape == row.targets.shape == row.documents.shape == (13,)
        expected = [1000 * d + p for d, p in pairs_of(row)]
        assert row.targets.tolist() == expected and row.ids.tolist() == [value - 1 for value in expected]
        segments = np.repeat(np.arange(len(row.origin)), row.origin[:, 2])
        assert row.documents.tolist() == segments.tolist(), "a segment's number changes exactly where the document does"


def test_rows_depend_on_seed_and_number_only():
    tokens = Memory(LENGTHS)
    first, again, other = (Packer(tokens, 7, seed) for seed in (0, 0, 1))
    ahead = [first.served(number).targets.tolist() for number in range(30)]
    assert [again.served(number).targets.tolist() for number in reversed(range(30))] == ahead[::-1], "any order of asking"
    assert [other.served(number).targets.tolist() for number in range(30)] != ahead


def test_epochs_differ_in_order():
    packer = Packer(Memory([9] * 12), 8, seed=0)
    epochs = [[packer.row(epoch, index).targets.tolist() for index in range(packer.rows_in(epoch))] for epoch in (0, 1)]
    assert epochs[0] != epochs[1]


def test_the_number_of_rows_follows_from_the_pairs():
    packer = Packer(Memory(LENGTHS), 13, seed=0)
    assert packer.pairs_per_epoch == sum(max(n - 1, 0) for n in LENGTHS)
    assert sum(packer.rows_in(epoch) for epoch in range(13)) == packer.pairs_per_epoch, "13 epochs fill rows of 13 exactly"
    assert {packer.rows_in(epoch) - packer.rows_per_epoch for epoch in range(13)} <= {0, 1}


@pytest.mark.parametrize(("row_tokens", "seed"), [(40, 0), (61, 3), (400, 1)])
def test_whole_documents_stand_in_exactly_one_row_an_epoch(row_tokens, seed):
    tokens = Memory(LENGTHS)
    packer, least = WholePacker(tokens, row_tokens, seed), -(-sum(max(length - 1, 0) for length in LENGTHS) // row_tokens)
    assert least <= packer.rows_per_epoch <= least + 1
    for epoch in (0, 1, 2):
        seen = []
        for row in (packer.served(epoch * packer.rows_per_epoch + index) for index in range(packer.rows_per_epoch)):
            for number, (document, start, length) in enumerate(row.origin.tolist()):
                here, stored = row.documents == number, tokens.document(document)
                assert row.ids[here].tolist() == stored[:-1].tolist() and row.targets[here].tolist() == stored[1:].tolist()
                assert (start, length) == (0, here.sum())
                seen.append(document)
            assert (row.targets[row.documents == len(row.origin)] == -100).all() and (np.diff(row.documents) >= 0).all()
        assert sorted(seen) == list(range(len(LENGTHS)))


def test_a_document_longer_than_a_row_is_not_whole_in_one():
    with pytest.raises(ValueError, match="document 1 has 9 pairs"):
        fit(np.array([3, 9]), 8)
