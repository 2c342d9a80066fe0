"""A frozen matrix held in 8 or 4 bits while something beside it learns (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).

The float matrix exists for the moment of a product, forwards and again backwards; nothing keeps it in between. Codes are those
of nn/quant.py: integers with a scale for each group, where the paper has NF4. O outputs, I inputs, G groups of g inputs.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from danlu.nn import low_rank
from danlu.nn.linear import Added
from danlu.nn.quant import Quantised, dequantised, pack_nibbles, quantise_int4, quantise_int8, unpack_nibbles

Form = Literal["int8", "int4"]


class SmallFrozen(nn.Module):
    """x (..., I) -> x W^T + b (..., O), W (O, I) made from its codes at each use. They never move, so no state_dict has them."""

    added: Added | None = None
    learns = False
    transposed = False
    """Whether the float layer was a Transposed."""
    codes: Tensor
    scales: Tensor

    def __init__(self, small: Quantised, bias: nn.Parameter | None = None):
        super().__init__()
        if small.zeros is not None:
            raise ValueError("codes with zero points are not held here")
        self.bits, self.group, self.shape = small.bits, small.group, small.codes.shape
        self.bias = bias
        codes = pack_nibbles(small.codes) if small.bits == 4 else small.codes
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", small.scales, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if low_rank.light(self, biases=True):
            return low_rank.product(x, self)
        y = low_rank.frozen_product(x, self)
        return y if self.added is None else self.added(x, y)

    @property
    def small(self) -> Quantised:
        """The codes as nn/quant.py has them."""
        codes = unpack_nibbles(self.codes, self.shape[1], signed=True) if self.bits == 4 else self.codes
        return Quantised(codes, self.scales, None, self.bits, self.group)

    @property
    def matrix(self) -> Tensor:
        """What `dequantised` defines, in few visits of it, (O, I) float32."""
        outputs, inputs = self.shape
        if inputs % self.group:
            return dequantised(self.small)
        if self.bits == 8:
            wide_OGg = self.codes.unflatten(1, (-1, self.group)).float()
            return wide_OGg.mul_(self.scales.float()[..., None]).flatten(1)
        if self.group % 2:
            return dequantised(self.small)
        pair_OGg = self.codes.unflatten(1, (self.scales.size(1), -1))  # two neighbouring inputs a byte
        wide, scale_OG1 = torch.empty(*pair_OGg.shape, 2, device=pair_OGg.device), self.scales.float()[..., None]
        torch.mul((pair_OGg << 4).view(torch.int8) >> 4, scale_OG1, out=wide[..., 0])
        torch.mul(pair_OGg.view(torch.int8) >> 4, scale_OG1, out=wide[..., 1])
        return wide.view(outputs, inputs)

    def load_codes(self, other: "SmallFrozen") -> None:
        """Mean the same matrix as another of the same shape and form."""
        self.codes, self.scales, self.group = other.codes.clone(), other.scales.clone(), other.group

    @property
    def bytes(self) -> int:
        """Memory of codes and scales."""
        return self.codes.nbytes + self.scales.nbytes


def code(weight_OI: Tensor, form: Form, group: int) -> Quantised:
    """The matrix in few bits: int8 with one scale an output, int4 with one for each group of inputs."""
    weight_OI = weight_OI.detach().contiguous()
    return quantise_int8(weight_OI) if form == "int8" else quantise_int4(weight_OI, group)
