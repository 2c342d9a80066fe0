"""What each token may look at: its own document, up to itself, within a window; or all of it, for encoders and prefixes.

B rows, T new tokens, S tokens in reach (those a decoding state remembers, then the new ones).
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


def table(
    tokens: int,
    start: int = 0,
    documents_BT: Tensor | None = None,
    *,
    causal: bool = True,
    window: int | None = None,
    sinks: int = 0,
    prefix_BT: Tensor | None = None,
) -> Tensor:
    """The definition, as booleans: (T, S), or (B, 1, T, S) when documents or prefixes are given (then start is 0).

    causal: nothing after itself. window: only tokens less than `window` places away; the first `sinks` tokens of a
    document stay in sight all the same (arXiv:2309.17453). prefix_BT: booleans; tokens of a prefix see one another both ways.

    >>> table(2, start=1).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    >>> table(4, window=2, sinks=1).int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]
    """
    given = next((one for one in (documents_BT, prefix_BT) if one is not None), None)
    device = None if given is None else given.device
    here_T1 = torch.arange(start, start + tokens, device=device)[:, None]
    there_S = torch.arange(start + tokens, device=device)
    seen = there_S <= here_T1 if causal else torch.ones(tokens, start + tokens, dtype=torch.bool, device=device)
    if prefix_BT is not None:
        seen = seen | (prefix_BT[:, :, None] & prefix_BT[:, None, :])
    if window is not None:
        near = (here_T1 - there_S).abs() < window
        place = there_S if documents_BT is None else positions(documents_BT)[:, None, :]
        seen = seen & (near | (place < sinks))
    if documents_BT is not None:
        seen = seen & (documents_BT[:, :, None] == documents_BT[:, None, :])
    return seen if seen.dim() == 2 else seen.unsqueeze(1)


def positions(documents_BT: Tensor) -> Tensor:
    """Place of each token in its own document, (B, T) int64, from 0.

    >>> positions(torch.tensor([[4, 4, 7, 7, 7]])).tolist()
    [[0, 1, 0, 1, 2]]
    """
    at_T = torch.arange(documents_BT.size(1), device=documents_BT.device)
    new_BT = documents_BT.diff(dim=1, prepend=documents_BT[:, :1] - 1) != 0
    return at_T - torch.where(new_BT, at_T, 0).cummax(dim=1).values


def lengths(documents_BT: Tensor) -> Tensor:
    """Tokens of the document that each token belongs to, (B, T) int64.

    >>> lengths(torch.tensor([[4, 4, 7, 7, 7]])).tolist()
    [[2, 2, 3, 3, 3]]
    """
    return positions(documents_BT) + positions(documents_BT.flip(1)).flip(1) + 1


@dataclass(frozen=True)
class Sight:
    """One step's view, made once and shared by the layers that look alike (`within` gives the same view through a window)."""

    tokens: int
    start: int = 0
    """Tokens a decoding state has taken in already."""
    documents_BT: Tensor | None = None
    """Which document a token belongs to, non-decreasing along a row; None: each row is one document."""
    causal: bool = True
    """Nothing after itself; off for encoders."""
    window: int | None = None
    """Only tokens less than this many places away; None: all."""
    sinks: int = 0
    """First tokens of a document that a window does not hide."""
    prefix_BT: Tensor | None = None
    """Booleans: tokens that see one another both ways, whatever `causal` says."""

    def __post_init__(self) -> None:
        if self.start and (self.documents_BT is not None or self.prefix_BT is not None):
            raise ValueError("decoding goes on with one document a row: give a state or documents, not both")

    def within(self, window: int | None, sinks: int = 0) -> "Sight":
        """The same view through a window; itself where the window hides nothing."""
        if window is None or window >= self.end:
            return self
        return Sight(self.tokens, self.start, self.documents_BT, self.causal, window, sinks, self.prefix_BT)

    @property
    def end(self) -> int:
        """Tokens of the longest text after this step."""
        return self.start + self.tokens

    def here(self, device: torch.device) -> Tensor:
        """Place of each token in its row, (T,)."""
        return torch.arange(self.start, self.end, device=device)

    @property
    def plain(self) -> bool:
        """Whether a row of one document is seen as the causal kernel sees it."""
        return self.causal and self.window is None and self.prefix_BT is None

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
    def apart(self) -> "list[Sight]":
        """Each document's view by itself, row after row: what it sees is what the whole shows of it."""
        assert self.documents_BT is not None
        new_BT = self.documents_BT.diff(dim=1, prepend=self.documents_BT[:, :1] - 1) != 0
        starts = [*new_BT.flatten().nonzero().flatten().tolist(), self.documents_BT.numel()]
        views = {
            tokens: Sight(tokens, causal=self.causal).within(self.window, self.sinks)
            for tokens in {end - start for start, end in pairwise(starts)}
        }
        return [views[end - start] for start, end in pairwise(starts)]

    @cached_property
    def table(self) -> Tensor:
        """The plain definition of this view."""
        return table(
            self.tokens, self.start, self.documents_BT,
            causal=self.causal, window=self.window, sinks=self.sinks, prefix_BT=self.prefix_BT,
        )  # fmt: skip

    @cached_property
    def places(self) -> Tensor | None:
        """Place of each token in its document, (B, T); None where each row is one document."""
        return None if self.mixed_rows is None else positions(self.documents_BT)  # type: ignore[arg-type]

    def at(self, device: torch.device) -> Tensor:
        """Place of each token in its document: (T,) where all rows agree, else (B, T)."""
        return self.here(device) if self.places is None else self.places

    @cached_property
    def fresh(self) -> Tensor | None:
        """Where a document begins, (B, T) booleans; None where each row is one document."""
        return None if self.places is None else self.places == 0

    @cached_property
    def mixed_table(self) -> Tensor:
        """The definition for the mixed rows alone, (rows, 1, T, T)."""
        return self.table[self.mixed_rows]

    def reach(self, held: int) -> Tensor:
        """The definition for the `held` keys that a state still has: the document's first `sinks`, then the latest."""
        total = self.start + self.tokens
        if held == total:
            return self.table
        kept = [self.table[..., : self.sinks], self.table[..., total - (held - self.sinks) :]]
        return torch.cat(kept, dim=-1)
