"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762) with grouped keys (arXiv:2305.13245).

B rows, H query heads, G key heads (G divides H), T new tokens, S tokens in reach, K head width. `attend_plain` is the
definition; `attend` picks the kernel. In long rows those that hold one document take the causal kernel, which skips the
upper half, and only the others pay for a mask; in short rows taking a batch apart costs more than the mask.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.nn.mask import Sight

_LONG = 1024
"""Tokens from which splitting a batch pays: the mask costs 1.0x the causal kernel's time at 512, 1.45x at 1024, 1.8x at 2048."""

_SHORT = 256
"""Tokens below which bfloat16 is no faster than float32 here."""


def attend_plain(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, seen: Tensor) -> Tensor:
    """The definition of attention, (B, H, T, K). seen: booleans that broadcast to (B, H, T, S)."""
    groups = q_BHTK.size(1) // k_BGSK.size(1)
    k_BHSK, v_BHSK = (part.repeat_interleave(groups, dim=1) for part in (k_BGSK, v_BGSK))
    score_BHTS = q_BHTK @ k_BHSK.mT / q_BHTK.size(-1) ** 0.5
    return score_BHTS.masked_fill(~seen, -math.inf).softmax(-1) @ v_BHSK


def attend(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, sight: Sight) -> Tensor:
    """What `attend_plain` computes with `sight.table`, by fused kernels."""
    if sight.mixed_rows is not None:
        return _attend_documents(q_BHTK, k_BGSK, v_BGSK, sight)
    if sight.start == 0:
        return _kernel(q_BHTK, k_BGSK, v_BGSK, causal=True)
    if sight.tokens == 1:
        return _kernel(q_BHTK, k_BGSK, v_BGSK)
    return _kernel(q_BHTK, k_BGSK, v_BGSK, seen=sight.table.to(q_BHTK.device))


def _attend_documents(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    whole, mixed = sight.whole_rows, sight.mixed_rows
    assert mixed is not None
    if len(whole) == 0 or sight.tokens < _LONG:
        return _kernel(q, k, v, seen=sight.table)
    parts = [
        _kernel(q[whole], k[whole], v[whole], causal=True),
        _kernel(q[mixed], k[mixed], v[mixed], seen=sight.mixed_table),
    ]
    return torch.cat(parts)[torch.cat([whole, mixed]).argsort()]


def _kernel(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, seen: Tensor | None = None) -> Tensor:
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.size(2) < _SHORT and q.requires_grad:
        # On processors the bfloat16 backward kernel takes 6 times as long as the float32 one at 64 tokens, 1.2 times at 256.
        return _kernel(q.float(), k.float(), v.float(), causal=causal, seen=seen).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal, enable_gqa=q.size(1) != k.size(1))
