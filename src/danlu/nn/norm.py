"""Root mean square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467) and layer normalisation (arXiv:1607.06450).

Statistics are taken in float32 whatever the input's type: squares of float16 overflow from 256 on.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn import kernels


def rms_norm_plain(x: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """The definition: x over the root of its mean square along the last axis, times a weight. In `dtype`, else x's own."""
    wide = x.float()
    scaled = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (weight_D.float() * scaled).to(dtype or x.dtype)


def rms_norm(x: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """What `rms_norm_plain` computes, in one visit of x; what is kept for the gradient is x itself and a number a row."""
    dtype = dtype or x.dtype
    if fusible(x, weight_D, dtype):
        normed: Tensor = _RMSNorm.apply(x, weight_D, eps, dtype)
        return normed
    return rms_norm_plain(x, weight_D, eps, dtype)


def fusible(x: Tensor, weight_D: Tensor, dtype: torch.dtype) -> bool:
    """Whether `normalise` can serve these."""
    return x.dtype == weight_D.dtype == torch.float32 and kernels.usable(dtype, x, weight_D)


def normalise(x: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The compiled pass: the normed x and the factor of each row, outside autograd."""
    y, rstd = torch.empty_like(x, dtype=dtype), x.new_empty(x.shape[:-1])
    kernels.call("rms_norm", dtype, x, weight_D, eps, y, rstd, rstd.numel(), x.size(-1))
    return y, rstd


def normalise_back(dy: Tensor, x: Tensor, weight_D: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """The compiled pass back: gradients of x and of the weight."""
    dx, share_D = torch.empty_like(x), weight_D.new_zeros(torch.get_num_threads(), x.size(-1))
    kernels.call("rms_norm_backward", dy.dtype, dy, x, weight_D, rstd, dx, share_D, rstd.numel(), x.size(-1))
    return dx, share_D.sum(0)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        x = x.contiguous()
        y, rstd = normalise(x, weight_D, eps, dtype)
        ctx.save_for_backward(x, weight_D, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *normalise_back(grads[0].contiguous(), *ctx.saved_tensors), None, None


class RMSNorm(nn.Module):
    """x (..., D) -> (..., D), in `compute_dtype` where that is set; the weight starts at one."""

    compute_dtype: torch.dtype | None = None

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    @property
    def gain(self) -> Tensor:
        """What the normed input is multiplied with, (D,)."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.gain, self.eps, self.compute_dtype)


class UnitRMSNorm(RMSNorm):
    """As RMSNorm with a gain of 1 + weight, in float32 (Gemma): the weight starts at zero, and decay pulls the gain to one."""

    @property
    def gain(self) -> Tensor:
        return 1.0 + self.weight.float()


class LayerNorm(nn.Module):
    """x (..., D) -> (..., D), mean removed, with weight (one at first) and, unless left out, bias (zero at first)."""

    compute_dtype: torch.dtype | None = None

    def __init__(self, width: int, eps: float, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        normed = F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), bias, self.eps)
        return normed.to(self.compute_dtype or x.dtype)
