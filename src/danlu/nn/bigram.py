"""A vector for each pair of neighbouring tokens, so that the layers need not learn what counting can tell.

B rows, T tokens, R table rows, D width. Pairs share rows where there are more pairs than rows.
"""

import torch
from torch import Tensor

from danlu.nn.linear import Embedding


class BigramEmbedding(Embedding):
    """Token ids and what stands before them -> (B, T, D). The last row serves tokens with nothing before them."""

    def __init__(self, rows: int, width: int, vocabulary: int):
        super().__init__(rows + 1, width)
        self.vocabulary = vocabulary

    def forward(self, ids_BT: Tensor, before_BT: Tensor | None = None) -> Tensor:
        """before_BT: the token before each, -1 for none."""
        assert before_BT is not None
        rows = len(self.weight) - 1
        pair_BT = (before_BT * self.vocabulary + ids_BT) % rows
        return super().forward(torch.where(before_BT < 0, rows, pair_BT))


def tokens_before(ids_BT: Tensor, documents_BT: Tensor | None, last_B: Tensor | None) -> Tensor:
    """The token before each in its document, -1 for none; last_B is what a decoding state saw last.

    >>> tokens_before(torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, 1]]), None).tolist()
    [[-1, -1, 6]]
    """
    first_B1 = ids_BT.new_full((len(ids_BT), 1), -1) if last_B is None else last_B[:, None]
    before_BT = torch.cat([first_B1, ids_BT[:, :-1]], dim=1)
    if documents_BT is not None:
        crosses_BT = documents_BT.diff(dim=1, prepend=documents_BT[:, :1]) != 0
        before_BT = before_BT.masked_fill(crosses_BT, -1)
    return before_BT
