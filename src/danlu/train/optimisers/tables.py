"""How lookup tables forget: rows shrink a little at each step, down to the size that new ones have."""

from collections.abc import Iterable

from torch import Tensor

FLOOR = 0.02
"""Root mean square of a row that shrinks no further: what new embeddings begin with in most families."""


def decay_rows(tables: Iterable[Tensor], share: float) -> None:
    """Shrink by this share every row above FLOOR.

    Rows of seldom tokens would else vanish between two readings, and the norm that reads them then has gradients without bound.

    >>> import torch
    >>> table = torch.tensor([[1.0, 1.0], [0.01, -0.01]])
    >>> decay_rows([table], 0.25)
    >>> table.tolist()
    [[0.75, 0.75], [0.009999999776482582, -0.009999999776482582]]
    """
    for table in tables:
        table.mul_(1 - share * (table.square().mean(dim=-1, keepdim=True) > FLOOR**2))
