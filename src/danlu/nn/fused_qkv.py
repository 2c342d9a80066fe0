"""One matrix for queries, keys and values, in the order of Megatron checkpoints: each head's three parts lie together.

B rows, T tokens, H heads, K head width.
"""

from torch import Tensor


def split_heads(fused: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, H * 3 * K), per head its query, its key, its value, to three of (B, T, H, K).

    >>> import torch
    >>> q, k, v = split_heads(torch.arange(12.0).view(1, 1, 12), heads=2)
    >>> q.tolist(), k.tolist(), v.tolist()
    ([[[[0.0, 1.0], [6.0, 7.0]]]], [[[[2.0, 3.0], [8.0, 9.0]]]], [[[[4.0, 5.0], [10.0, 11.0]]]])
    """
    q, k, v = fused.unflatten(-1, (heads, 3, -1)).unbind(-2)
    return q, k, v
