"""Rows of equal length from documents of any length, without padding; which row comes when is a pure function of the seed.

A document of n stored tokens gives n - 1 pairs (input, target), target = the token after the input. The law:

1. Epoch e lays the pairs of all documents end to end, documents in the order `permutation(derive(seed, "documents", e))`.
   The epochs follow one another in one endless stream; E pairs an epoch.
2. Row k is the pairs [k * T, (k + 1) * T) of the stream, so each pair of each document stands in exactly one row an epoch.
   The row that crosses from one epoch into the next belongs to the first: nothing is lost and nothing is padded.
3. Within an epoch the rows are served in the order `permutation(derive(seed, "rows", e))`.

A document that a row's end cuts goes on in the next row of the stream as a segment of its own.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.core.errors import DatasetTooSmall
from danlu.core.labels import NO_LABEL
from danlu.core.seeds import derive
from danlu.data.tokens import TokenSet

IntArray = NDArray[Any]


@dataclass(frozen=True)
class Row:
    """T pairs: `ids` and `targets` (T,) int64; `documents` (T,) int32 counts the segments of the row from 0."""

    ids: IntArray
    targets: IntArray
    documents: IntArray
    origin: IntArray
    """(segments, 3): document index in the token set, first input position in it, number of pairs."""


class Packer:
    """Random access to the rows of a training run. Memory: two permutations of the documents and one of the rows."""

    def __init__(self, tokens: TokenSet, row_tokens: int, seed: int):
        self.tokens, self.row_tokens, self.seed = tokens, row_tokens, seed
        self.pairs = np.maximum(tokens.lengths - 1, 0)
        """Pairs of each document."""
        self.pairs_per_epoch = int(self.pairs.sum())
        if not self.pairs_per_epoch:
            raise DatasetTooSmall("no document of the dataset holds two tokens, so there is nothing to predict. Add text.")
        self._order = functools.lru_cache(maxsize=2)(self._make_order)
        self._row_order = functools.lru_cache(maxsize=1)(self._make_row_order)

    @property
    def rows_per_epoch(self) -> int:
        """Whole rows in an epoch; an epoch serves this many, or one more that crosses into the next."""
        return self.pairs_per_epoch // self.row_tokens

    def first_row(self, epoch: int) -> int:
        """Number of the first row that begins in an epoch."""
        return -(-epoch * self.pairs_per_epoch // self.row_tokens)

    def rows_in(self, epoch: int) -> int:
        """Rows that begin in an epoch."""
        return self.first_row(epoch + 1) - self.first_row(epoch)

    def served(self, number: int) -> Row:
        """The number-th row of the run, from 0, in the order of training."""
        epoch = number * self.row_tokens // self.pairs_per_epoch
        return self.row(epoch, number - self.first_row(epoch))

    def row(self, epoch: int, index: int) -> Row:
        """The index-th row that epoch `epoch` serves."""
        order = self._row_order(epoch)
        return self.cut((self.first_row(epoch) + int(order[index])) * self.row_tokens)

    def cut(self, start: int) -> Row:
        """The row whose first pair is number `start` of the endless stream."""
        ids = np.empty(self.row_tokens, np.int64)
        targets = np.empty(self.row_tokens, np.int64)
        documents = np.empty(self.row_tokens, np.int32)
        origin: list[tuple[int, int, int]] = []
        filled = 0
        while filled < self.row_tokens:
            document, position, length = self._segment(start + filled, self.row_tokens - filled)
            stored = self.tokens.document(document, position, position + length + 1)
            ids[filled : filled + length] = stored[:-1]
            targets[filled : filled + length] = stored[1:]
            documents[filled : filled + length] = len(origin)
            origin.append((document, position, length))
            filled += length
        return Row(ids, targets, documents, np.array(origin, np.int64))

    def _segment(self, place: int, most: int) -> tuple[int, int, int]:
        """The document, the position in it and the pairs (at most `most`) that stand at a place of the stream."""
        epoch, place = divmod(place, self.pairs_per_epoch)
        order, ends = self._order(epoch)
        at = int(np.searchsorted(ends, place, side="right"))
        document = int(order[at])
        left = int(ends[at]) - place
        return document, int(self.pairs[document]) - left, min(left, most)

    def _make_order(self, epoch: int) -> tuple[IntArray, IntArray]:
        """The documents of an epoch in order, and the place in its stream where each ends."""
        order = np.random.default_rng(derive(self.seed, "documents", epoch)).permutation(len(self.tokens))
        return order, np.cumsum(self.pairs[order])

    def _make_row_order(self, epoch: int) -> IntArray:
        return np.random.default_rng(derive(self.seed, "rows", epoch)).permutation(self.rows_in(epoch))


class WholePacker(Packer):
    """Rows that hold whole documents; what is left of a row is filling, a document of its own that asks for nothing.

    Which documents share a row is drawn once (best fit, in the order of `permutation(derive(seed, "documents", 0))`): they do not
    see one another. Every epoch serves all rows, in an order of its own.
    """

    def __init__(self, tokens: TokenSet, row_tokens: int, seed: int):
        super().__init__(tokens, row_tokens, seed)
        order = np.random.default_rng(derive(seed, "documents", 0)).permutation(len(tokens))
        self.rows = [[int(order[at]) for at in row] for row in fit(self.pairs[order], row_tokens)]

    @property
    def rows_per_epoch(self) -> int:
        return len(self.rows)

    def first_row(self, epoch: int) -> int:
        return epoch * len(self.rows)

    def served(self, number: int) -> Row:
        return self.row(*divmod(number, len(self.rows)))

    def row(self, epoch: int, index: int) -> Row:
        return whole_row(self.tokens, self.rows[int(self._row_order(epoch)[index])], self.row_tokens)


def fit(lengths: IntArray, room: int) -> list[list[int]]:
    """Indices in rows, each as long as `room` at most: the next goes where it leaves least. Raises ValueError for one longer.

    >>> fit(np.array([5, 4, 3, 2, 6]), 8)
    [[0, 2], [1, 3], [4]]
    """
    rows: list[list[int]] = []
    left: list[list[int]] = [[] for _ in range(room + 1)]  # rows by the room they have left
    for index, length in enumerate(lengths.tolist()):
        if length > room:
            raise ValueError(f"document {index} has {length} pairs, and a row has room for {room}")
        space = next((space for space in range(length, room + 1) if left[space]), room)
        if not left[space]:
            left[space].append(len(rows))
            rows.append([])
        row = left[space].pop()
        rows[row].append(index)
        left[space - length].append(row)
    return rows


def whole_row(tokens: TokenSet, documents: Sequence[int], row_tokens: int) -> Row:
    """Documents side by side, whole, and filling."""
    ids, targets = np.zeros(row_tokens, np.int64), np.full(row_tokens, NO_LABEL, np.int64)
    numbers = np.full(row_tokens, len(documents), np.int32)
    at, origin = 0, []
    for number, document in enumerate(documents):
        stored = tokens.document(document)
        here = slice(at, at + max(len(stored) - 1, 0))
        ids[here], targets[here], numbers[here] = stored[:-1], stored[1:], number
        origin.append((document, 0, here.stop - at))
        at = here.stop
    return Row(ids, targets, numbers, np.array(origin, np.int64).reshape(-1, 3))
