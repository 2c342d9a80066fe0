"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864), half-split layout as Llama checkpoints use it.

Channel i and channel i + K/2 of a head form one plane, turned by position * theta^(-2i/K). Leaves out the rescalings
for long contexts.
"""

import torch
from torch import Tensor


def turns(positions: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle: positions (...) -> two of (..., K/2), float32.

    >>> cos, sin = turns(torch.tensor([0, 3]), 4, 10_000.0)
    >>> cos.shape, cos[0].tolist(), sin[0].tolist()
    (torch.Size([2, 2]), [1.0, 1.0], [0.0, 0.0])
    """
    frequency = theta ** -(torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width)
    angle = positions[..., None].float() * frequency
    return angle.cos(), angle.sin()


def rotate_plain(x_BTHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every plane of every head; cos and sin (T, K/2) or (B, T, K/2)."""
    cos, sin = cos.unsqueeze(-2).to(x_BTHK.dtype), sin.unsqueeze(-2).to(x_BTHK.dtype)
    left, right = x_BTHK.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
