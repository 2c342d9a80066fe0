"""Root mean square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467) and layer normalisation (arXiv:1607.06450).

Statistics are taken in float32 whatever the input's type: squares of float16 overflow from 256 on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm_plain(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """The definition: x over the root of its mean square along the last axis, times a weight. Same shape and type as x."""
    wide = x.float()
    scaled = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (weight_D.float() * scaled).to(x.dtype)


class RMSNorm(nn.Module):
    """x (..., D) -> (..., D); the weight starts at one."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm_plain(x, self.weight, self.eps)


class LayerNorm(nn.Module):
    """x (..., D) -> (..., D), mean removed, with weight (one at first) and bias (zero at first)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
