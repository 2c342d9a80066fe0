"""Positions as waves (Vaswani et al. 2017, arXiv:1706.03762, section 3.5): nothing is learned, so no row is too long.

The sines fill the first half of the channels and the cosines the second, as checkpoints on disk have it; the paper lays them
in turn, which is the same up to the order of channels.
"""

import torch
from torch import Tensor


def waves(places: Tensor, width: int) -> Tensor:
    """Vectors of places (...) -> (..., D) float32: sin and cos of place / 10000^(2i/D).

    >>> waves(torch.tensor([0, 1]), 4).round(decimals=3)
    tensor([[0.0000, 0.0000, 1.0000, 1.0000],
            [0.8410, 0.0100, 0.5400, 1.0000]])
    """
    half = torch.arange(0, width, 2, device=places.device, dtype=torch.float64)
    angle = places[..., None].double() * 10_000.0 ** (-half / width)
    return torch.cat([angle.sin(), angle[..., : width // 2].cos()], dim=-1).float()
