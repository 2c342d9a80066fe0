"""Feed-forward layer with squared ReLU (So et al. 2021, Primer, arXiv:2109.08668): down(relu(up(x))^2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.linear import Linear
from danlu.nn.norm import RMSNorm
from danlu.nn.project import project


class ReLU2(nn.Module):
    """x (B, T, D), normed by the block's norm -> (B, T, D) through F inner channels."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.up_proj = Linear(width, inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor, norm: RMSNorm) -> Tensor:
        (up,) = project(x, norm, self.up_proj)
        return self.down_proj(F.relu(up).square())
