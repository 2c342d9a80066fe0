"""What each token may look at: everything before it in its own document, and itself.

B rows, T new tokens, S tokens in reach (those a decoding state remembers, then the new ones).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def table(tokens: int, start: int = 0, documents_BT: Tensor | None = None) -> Tensor:
    """The definition, as booleans: (T, S), or (B, 1, T, S) when documents are given (then start is 0).

    >>> table(2, start=1).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    device = None if documents_BT is None else documents_BT.device
    causal_TS = torch.ones(tokens, start + tokens, dtype=torch.bool, device=device).tril(start)
    if documents_BT is None:
        return causal_TS
    return (causal_TS & (documents_BT[:, :, None] == documents_BT[:, None, :])).unsqueeze(1)


def positions(documents_BT: Tensor) -> Tensor:
    """Place of each token in its own document, (B, T) int64, from 0.

    >>> positions(torch.tensor([[4, 4, 7, 7, 7]])).tolist()
    [[0, 1, 0, 1, 2]]
    """
    at_T = torch.arange(documents_BT.size(1), device=documents_BT.device)
    new_BT = documents_BT.diff(dim=1, prepend=documents_BT[:, :1] - 1) != 0
    return at_T - torch.where(new_BT, at_T, 0).cummax(dim=1).values


@dataclass(frozen=True)
class Sight:
    """One step's view, made once and shared by all layers."""

    tokens: int
    start: int = 0
    """Tokens a decoding state holds already."""
    documents_BT: Tensor | None = None
    """Which document a token belongs to, non-decreasing along a row; None: each row is one document."""

    def __post_init__(self) -> None:
        if self.documents_BT is not None and self.start:
            raise ValueError("decoding goes on with one document a row: give a state or documents, not both")

    @cached_property
    def mixed_rows(self) -> Tensor | None:
        """Indices of rows that hold more than one document; None where there is none."""
        if self.documents_BT is None:
            return None
        rows = (self.documents_BT[:, 0] != self.documents_BT[:, -1]).nonzero().flatten()
        return rows if len(rows) else None

    @cached_property
    def whole_rows(self) -> Tensor:
        """Indices of rows that hold one document."""
        assert self.documents_BT is not None
        return (self.documents_BT[:, 0] == self.documents_BT[:, -1]).nonzero().flatten()

    @cached_property
    def table(self) -> Tensor:
        """The plain definition of this view."""
        return table(self.tokens, self.start, self.documents_BT)

    @cached_property
    def mixed_table(self) -> Tensor:
        """The definition for the mixed rows alone, (rows, 1, T, T)."""
        assert self.documents_BT is not None and self.mixed_rows is not None
        return table(self.tokens, 0, self.documents_BT[self.mixed_rows])
