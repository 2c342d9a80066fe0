"""Sums by key for more keys than a dictionary holds: sorted arrays that merge, so that memory follows the distinct keys."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Sums = NDArray[Any]


class Tally:
    """Takes in blocks of keys and amounts; `result` has every key once, ascending, with the sum of its amounts.

    Blocks wait sorted and merge with others of their size, so each key moves a logarithmic number of times.

    >>> tally = Tally()
    >>> tally.add(np.array([5, 2, 5])), tally.add(np.array([2, 9]), np.array([0.5, 1.0]))
    (None, None)
    >>> [part.tolist() for part in tally.result()]
    [[2, 5, 9], [1.5, 2.0, 1.0]]
    """

    def __init__(self) -> None:
        self._sorted: list[tuple[Keys, Sums]] = []

    def add(self, keys: Keys, amounts: Sums | None = None) -> None:
        """keys: (N,) int64. amounts: (N,), counted in ones where left out."""
        if not len(keys):
            return
        self._sorted.append(_summed(keys.astype(np.int64), np.ones(len(keys), np.int64) if amounts is None else amounts))
        while len(self._sorted) > 1 and len(self._sorted[-2][0]) <= 2 * len(self._sorted[-1][0]):
            self._merge()

    def result(self) -> tuple[Keys, Sums]:
        """Distinct keys, ascending, and their sums."""
        while len(self._sorted) > 1:
            self._merge()
        return self._sorted[0] if self._sorted else (np.empty(0, np.int64), np.empty(0, np.int64))

    def _merge(self) -> None:
        (first_keys, first_sums), (keys, sums) = self._sorted[-2:]
        self._sorted[-2:] = [_summed(np.concatenate([first_keys, keys]), np.concatenate([first_sums, sums]))]


def _summed(keys: Keys, amounts: Sums) -> tuple[Keys, Sums]:
    """Sorted distinct keys and sums. A stable sort finds the runs of what was sorted before and only merges them."""
    order = np.argsort(keys, kind="stable")
    keys, amounts = keys[order], amounts[order]
    first = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    return keys[first], np.add.reduceat(amounts, first)
