"""How lookup tables forget: the rows that a step moves shrink a little first."""

from collections.abc import Iterable

from torch import Tensor


def decay_rows(tables: Iterable[Tensor], share: float) -> None:
    """Shrink by this share every row that has a gradient; one that no token asked for stays as it is.

    Rows that are seldom read would else vanish between two readings, and the norm that reads them has gradients without bound.

    >>> import torch
    >>> table = torch.ones(3, 2, requires_grad=True)
    >>> table.grad = torch.tensor([[0.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    >>> with torch.no_grad():
    ...     decay_rows([table], 0.25)
    >>> table.tolist()
    [[1.0, 1.0], [0.75, 0.75], [0.75, 0.75]]
    """
    for table in tables:
        assert table.grad is not None
        table.mul_(1 - share * (table.grad != 0).any(dim=-1, keepdim=True))
