"""Feed-forward layer with squared ReLU (So et al. 2021, Primer, arXiv:2109.08668): down(relu(up(x))^2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.linear import Linear


class ReLU2(nn.Module):
    """x (B, T, D) -> (B, T, D) through F inner channels."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.up_proj = Linear(width, inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.relu(self.up_proj(x)).square())
