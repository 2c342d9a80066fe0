"""The pieces of documents that a row holds, taken out, rearranged by an objective, and laid side by side again.

A piece is what a row's documents call one: a document, or the part of one that the row's ends cut off. B rows, T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.data.pack import Row

Ids = NDArray[Any]


@dataclass(frozen=True)
class Piece:
    """`ids` (L + 1,) int64: the first input of a piece and all its targets."""

    ids: Ids
    bos: int | None
    eos: int | None

    @property
    def begins(self) -> bool:
        """Whether the token before a document is there."""
        return self.bos is not None and int(self.ids[0]) == self.bos

    @property
    def ends(self) -> bool:
        """Whether the token after a document is there."""
        return self.eos is not None and len(self.ids) > 1 and int(self.ids[-1]) == self.eos

    @property
    def text(self) -> Ids:
        """The tokens of the text itself; of a piece that goes on, those not seen as targets before."""
        first = 0 if self.bos is None else 1  # where documents have no opening token, the first input is text nobody asks for
        return self.ids[first : len(self.ids) - self.ends]


def pieces(row: Row, bos: int | None, eos: int | None) -> Iterator[Piece]:
    """What a row holds, in order, without the filling."""
    known = row.targets != NO_LABEL
    ids, targets, numbers = row.ids[known], row.targets[known], row.documents[known]
    for place in np.split(np.arange(len(ids)), np.flatnonzero(np.diff(numbers)) + 1):
        if len(place):
            yield Piece(np.append(ids[place[0]], targets[place]), bos, eos)


def side_by_side(rows: Sequence[Sequence[Ids]], fill: int) -> tuple[Tensor, Tensor]:
    """Rows of pieces as (B, T) int64, and the number of the piece of each token, (B, T) int32.

    What short rows lack is `fill`, in a piece of its own.
    """
    width = max(1, *(sum(map(len, row)) for row in rows))
    ids = np.full((len(rows), width), fill, np.int64)
    numbers = np.empty((len(rows), width), np.int32)
    for index, row in enumerate(rows):
        held = np.concatenate([np.empty(0, np.int64), *row])
        ids[index, : len(held)] = held
        lengths = [*map(len, row), width - len(held)]
        numbers[index] = np.repeat(np.arange(len(lengths)), lengths)
    return torch.from_numpy(ids), torch.from_numpy(numbers)
