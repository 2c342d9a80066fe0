"""Gated feed-forward layer SwiGLU (Shazeer 2020, arXiv:2002.05202): down(silu(gate(x)) * up(x))."""

import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.linear import Linear


def swiglu_plain(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, elementwise."""
    return F.silu(gate) * up


class SwiGLU(nn.Module):
    """x (B, T, D) -> (B, T, D) through F inner channels."""

    def __init__(self, width: int, inner: int, bias: bool = False):
        super().__init__()
        self.gate_proj = Linear(width, inner, bias)
        self.up_proj = Linear(width, inner, bias)
        self.down_proj = Linear(inner, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu_plain(self.gate_proj(x), self.up_proj(x)))
