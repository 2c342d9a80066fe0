"""A matrix in 8 or 4 bits through torch's packed kernels: where there is no C compiler, and for families without native code.

A few rows at once are bound by reading the weights, and small ones are read faster; many rows are bound by arithmetic, where
the matrix in float32 again is faster than the packed product. The packed kernels are fast with bfloat16 inputs alone.
M rows, O outputs, I inputs, G groups.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.linear import Added
from danlu.nn.quant import Quantised, pack_nibbles

_FEW = 32
"""Rows up to which the packed product wins: at 32 of 2,048 x 2,048 both took 14 ms of one core, at 128 it took twice as long."""
GROUPS = (32, 64, 128, 256)
"""Inputs that share a scale, as torch's kernel for 4 bits has them."""

_STEP = 32
"""Inputs that the kernel for 8 bits reads at once; torch 2.13 does not check, and reads beyond the end of other rows."""


def unfit(small: Quantised) -> str | None:
    """Why torch's kernels cannot take a matrix; None: they can."""
    outputs, inputs = small.codes.shape
    if small.bits == 8:
        if inputs % _STEP:
            return f"{inputs} inputs are no multiple of {_STEP}"
        return None if small.group == inputs and small.zeros is None else "8 bits have one scale a row here"
    if small.group not in GROUPS:
        return f"groups of {small.group}, not of {', '.join(map(str, GROUPS))}"
    return None if outputs % 16 == 0 and inputs % small.group == 0 else f"{outputs} x {inputs} does not divide into its blocks"


class SmallLinear(nn.Module):
    """x (..., I) -> x W^T + b (..., O), in the type of x."""

    added: Added | None = None

    def __init__(self, small: Quantised, bias: Tensor | None = None):
        super().__init__()
        if (why := unfit(small)) is not None:
            raise ValueError(why)
        self.bits, self.group = small.bits, small.group
        self.bias = bias
        self.register_buffer("scales", small.scales)
        self.register_buffer("zeros", small.zeros)
        if small.bits == 8:
            self.register_buffer("codes", small.codes)
            return
        self.register_buffer("codes", pack_nibbles(small.codes))
        level_OI = small.codes.int() + (8 if small.zeros is None else 0)
        self.register_buffer("tiles", torch.ops.aten._convert_weight_to_int4pack_for_cpu(level_OI, 1))
        zero_OG = torch.full_like(small.scales, 8) if small.zeros is None else small.zeros.to(small.scales.dtype)
        shift_OG = (small.scales.float() * (8 - zero_OG.float())).bfloat16()  # the kernel reads code 8 as this
        self.register_buffer("pairs", torch.stack([small.scales, shift_OG], -1).transpose(0, 1).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        x_MI = x.flatten(0, -2)
        y_MO = self.packed(x_MI) if len(x_MI) <= _FEW else F.linear(x_MI.float(), self.weight)
        y = y_MO.to(x.dtype).view(*x.shape[:-1], -1)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)
        return y if self.added is None else self.added(x, y)

    def packed(self, x_MI: Tensor) -> Tensor:
        """The product by torch's kernels, bfloat16 (M, O)."""
        narrow_MI = x_MI.bfloat16().contiguous()
        if self.bits == 8:
            return torch.ops.aten._weight_int8pack_mm(narrow_MI, self.codes, self.scales[:, 0])
        return torch.ops.aten._weight_int4pack_mm_for_cpu(narrow_MI, self.tiles, self.group, self.pairs)

    @property
    def matrix(self) -> Tensor:
        """The same, by the name that all layers have."""
        return self.weight

    @property
    def weight(self) -> Tensor:
        """The float32 matrix that the codes mean, what `dequantised` defines, in few visits of it."""
        if self.bits == 8:
            return self.codes.float().mul_(self.scales.float())
        pair_OGg = self.codes.unflatten(1, (self.scales.size(1), -1))  # two neighbouring inputs a byte
        if self.zeros is None:
            low, high = (pair_OGg << 4).view(torch.int8) >> 4, pair_OGg.view(torch.int8) >> 4
        else:
            zero_OG1 = self.zeros[..., None]
            low, high = (pair_OGg & 15).view(torch.int8) - zero_OG1, (pair_OGg >> 4).view(torch.int8) - zero_OG1
        wide, scale_OG1 = torch.empty(*pair_OGg.shape, 2), self.scales.float()[..., None]
        torch.mul(low, scale_OG1, out=wide[..., 0])
        torch.mul(high, scale_OG1, out=wide[..., 1])
        return wide.flatten(1)
