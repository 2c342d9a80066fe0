"""The law of replay: new rows are those of a run without it, old ones are spread evenly among them, and all lead home."""

import numpy as np
import pytest

from danlu.data.pack import Packer
from danlu.data.replay import Replay


class Memory:
    """A token set in memory: document d of set `base` holds base + 1000 d, base + 1000 d + 1, ..."""

    def __init__(self, lengths, base):
        self.lengths, self.base = np.array(lengths, np.int64), base

    def __len__(self):
        return len(self.lengths)

    def document(self, index, start=0, stop=None):
        return np.arange(self.lengths[index])[start:stop] + 1000 * index + self.base

    def origin(self, index):
        return f"{self.base}:{index}"


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_rows_are_those_of_both_packers_in_order_and_spread_evenly(share):
    new, old = Packer(Memory([9, 31, 4, 17], 0), 7, seed=3), Packer(Memory([12, 25, 6], 500_000), 7, seed=3)
    both, kinds = Replay(new, old, share), []
    for number in range(120):
        row, before = both.served(number), both.old_before(number)
        is_old = bool(row.ids[0] >= 500_000)
        kinds.append(is_old)
        plain = old.served(before) if is_old else new.served(number - before)
        assert (row.ids == plain.ids).all() and (row.targets == plain.targets).all()
        for document, first, _ in row.origin.tolist()[:1]:
            home = old.tokens if is_old else new.tokens
            own = document - len(new.tokens) if is_old else document
            assert row.ids[0] == home.document(own, first)[0]
            assert both.tokens.origin(document) == home.origin(own)
    assert sum(kinds) == both.old_before(120) == int(120 * share)
    for start in range(100):
        assert abs(sum(kinds[start : start + 20]) - 20 * share) <= 1
