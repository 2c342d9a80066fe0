"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864), half-split layout as Llama checkpoints use it.

Channel i and channel i + K/2 of a head form one plane, turned by position * theta^(-2i/K). Other frequencies, for long
contexts: rope_scaling.py.
"""

from typing import Any

import torch
from torch import Tensor

from danlu.nn import kernels
from danlu.nn.norm import rms_norm_plain


def turns(positions: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle: positions (...) -> two of (..., K/2), float32.

    >>> cos, sin = turns(torch.tensor([0, 3]), 4, 10_000.0)
    >>> cos.shape, cos[0].tolist(), sin[0].tolist()
    (torch.Size([2, 2]), [1.0, 1.0], [0.0, 0.0])
    """
    return turns_by(positions, frequencies(head_width, theta))


def frequencies(head_width: int, theta: float | Tensor) -> Tensor:
    """Radians a token by which each plane turns, (K/2,) float32; a theta of shape (..., 1) gives (..., K/2)."""
    return 1.0 / theta ** (torch.arange(0, head_width, 2).float() / head_width)


def turns_by(positions: Tensor, frequency: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine as `turns`, by given frequencies (K/2,) or (..., K/2) and times an attention scale."""
    angle = positions[..., None].float() * frequency.to(positions.device)
    cos, sin = angle.cos(), angle.sin()
    return (cos, sin) if scale == 1.0 else (cos * scale, sin * scale)


def rotate_plain(x_BTHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every plane of every head; cos and sin (T, K/2) or (B, T, K/2)."""
    cos, sin = cos.unsqueeze(-2).to(x_BTHK.dtype), sin.unsqueeze(-2).to(x_BTHK.dtype)
    left, right = x_BTHK.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def norm_rotate_plain(x_BTHK: Tensor, weight_K: Tensor | None, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads normalised where a weight is given (Qwen3's order), then turned."""
    return rotate_plain(x_BTHK if weight_K is None else rms_norm_plain(x_BTHK, weight_K, eps), cos, sin)


def norm_rotate(x_BTHK: Tensor, weight_K: Tensor | None, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
    """What `norm_rotate_plain` computes, in one visit of x; kept for the gradient: x (only under a norm) and a number a head."""
    dense = x_BTHK if weight_K is None else weight_K
    if dense.dtype in (x_BTHK.dtype, torch.float32) and kernels.usable(x_BTHK.dtype, x_BTHK, dense):
        turned: Tensor = _NormRotate.apply(x_BTHK, weight_K, eps, cos, sin)
        return turned
    return norm_rotate_plain(x_BTHK, weight_K, eps, cos, sin)


def rotate_first(x_BTHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn only as many of a head's first channels as there are angles for; the rest carry no position."""
    width = 2 * cos.size(-1)
    if width == x_BTHK.size(-1):
        return norm_rotate(x_BTHK, None, 0.0, cos, sin)
    return torch.cat([norm_rotate(x_BTHK[..., :width], None, 0.0, cos, sin), x_BTHK[..., width:]], dim=-1)


class _NormRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTHK: Tensor, weight_K: Tensor | None, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
        x_BTHK, cos, sin = x_BTHK.contiguous(), cos.contiguous(), sin.contiguous()
        weight_K = None if weight_K is None else weight_K.float()
        y_BTHK = torch.empty_like(x_BTHK)
        rstd = None if weight_K is None else cos.new_empty(x_BTHK.shape[:-1])
        kernels.call("norm_rotate", x_BTHK.dtype, x_BTHK, weight_K, eps, cos, sin, y_BTHK, rstd, *_sizes(x_BTHK, cos))
        ctx.save_for_backward(None if weight_K is None else x_BTHK, weight_K, rstd, cos, sin)
        return y_BTHK

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        x_BTHK, weight_K, rstd, cos, sin = ctx.saved_tensors
        dy = grads[0].contiguous()
        dx = torch.empty_like(dy)
        share_K = None if weight_K is None else weight_K.new_zeros(torch.get_num_threads(), len(weight_K))
        sizes = _sizes(dy, cos)
        kernels.call("norm_rotate_backward", dy.dtype, dy, x_BTHK, weight_K, rstd, cos, sin, dx, share_K, *sizes)
        return dx, None if share_K is None else share_K.sum(0), None, None, None


def _sizes(x_BTHK: Tensor, cos: Tensor) -> tuple[int, int, int, int]:
    rows, tokens, heads, width = x_BTHK.shape
    return rows * tokens, heads, width // 2, cos.numel() // (width // 2)
