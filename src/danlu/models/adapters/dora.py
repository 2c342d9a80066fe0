"""DoRA: LoRA on the directions of a matrix's rows, their lengths learned apart (Liu et al. 2024, arXiv:2402.09353).

y = m / |W + scale B A| * (W x + scale B (A x)), a length m for each output, norms over its inputs. The norm takes no gradient
(section 4.3). O outputs, I inputs, R rank.
"""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.models.adapters import ADAPTERS
from danlu.models.adapters.base import Adapted
from danlu.models.adapters.held import Layer
from danlu.models.adapters.lora import LoRA
from danlu.nn.low_rank import LowRank

_TINY = 1e-12
"""Least length of a row: one of zeros stays one of zeros."""


class Directed(LowRank):
    """What one layer's answer becomes. It looks at the layer, and is no part of it."""

    layer: Any

    def __init__(self, layer: Layer, inputs: int, outputs: int, rank: int, scale: float, dropout: float):
        super().__init__(inputs, outputs, rank, scale, dropout)
        self.__dict__["layer"] = layer
        self.lora_magnitude_vector = nn.Parameter(layer.matrix.detach().float().norm(dim=1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        factor_O = (self.lora_magnitude_vector / self.norm()).to(y.dtype)
        bias = self.layer.bias
        plain = y if bias is None else y - bias.to(y.dtype)
        dropped = F.dropout(x, self.dropout, self.training)
        more = F.linear(F.linear(dropped, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype))
        turned = factor_O * (plain + self.scale * more)
        return turned if bias is None else turned + bias.to(y.dtype)

    @torch.no_grad()
    def norm(self) -> Tensor:
        """Lengths of the rows of W + scale B A, (O,), without that matrix: |w|^2 + 2 s b (A w) + s^2 b (A A^T) b."""
        weight_OI, a_RI, b_OR = self.layer.matrix.float(), self.lora_A.float(), self.lora_B.float()
        across_O = ((weight_OI @ a_RI.t()) * b_OR).sum(1)
        own_O = ((b_OR @ (a_RI @ a_RI.t())) * b_OR).sum(1)
        squared_O: Tensor = weight_OI.square().sum(1) + 2 * self.scale * across_O + self.scale**2 * own_O
        return squared_O.clamp(min=_TINY**2).sqrt()

    def norm_plain(self) -> Tensor:
        """The definition."""
        turned: Tensor = self.layer.matrix + self.change()
        return turned.norm(dim=1)


@ADAPTERS.register
class DoRA(LoRA):
    """LoRA with a length for each output."""

    tensors: ClassVar[dict[str, str]] = {**LoRA.tensors, "lora_magnitude_vector": "lora_magnitude_vector"}

    class Config(LoRA.Config):
        """As for LoRA."""

        name: Literal["dora"] = "dora"  # type: ignore[assignment]  # narrows

    def part(self, layer: Layer, inputs: int, outputs: int, rank: int, scale: float) -> LowRank:
        return Directed(layer, inputs, outputs, rank, scale, self.config.dropout)

    def merged(self, layer: Any, part: Any) -> Tensor:
        part.__dict__["layer"] = layer  # float again, where the base was held in few bits
        turned: Tensor = layer.matrix.float() + part.change().float()
        lengthened: Tensor = (
            part.lora_magnitude_vector.float()[:, None] * turned / turned.norm(dim=1, keepdim=True).clamp(min=_TINY)
        )
        return lengthened

    def to_peft(self, model: Adapted) -> tuple[dict[str, Any], dict[str, Tensor]]:
        fields, tensors = super().to_peft(model)
        return {**fields, "use_dora": True}, tensors

    @classmethod
    def also_read(cls) -> frozenset[str]:
        return frozenset({"use_dora"})
