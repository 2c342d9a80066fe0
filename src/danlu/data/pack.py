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
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.core.errors import DatasetTooSmall
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
