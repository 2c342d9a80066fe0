"""Gated feed-forward layer GEGLU (Shazeer 2020, arXiv:2002.05202): down(gelu(gate(x)) * up(x)) of the normed stream."""

import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.linear import Linear
from danlu.nn.norm import RMSNorm
from danlu.nn.project import project


class GEGLU(nn.Module):
    """x (B, T, D), normed by the block's norm -> (B, T, D) through F inner channels; GELU in its tanh form."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj = Linear(width, inner)
        self.up_proj = Linear(width, inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor, norm: RMSNorm) -> Tensor:
        gate, up = project(x, norm, self.gate_proj, self.up_proj)
        return self.down_proj(F.gelu(gate, approximate="tanh") * up)
