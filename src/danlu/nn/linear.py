"""A matrix whose weight keeps full precision and is rounded to the input's where the two differ.

Master weights stay float32 while activations may be bfloat16 (models/precision.py): the cast is one read of the weight a
step, costs nothing when the types agree, and autograd brings the gradient back to the weight's own type.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn import low_rank

Added = Callable[[Tensor, Tensor], Tensor]
"""What is laid on a layer from outside (an adapter): its input and its product to what it answers."""


class Linear(nn.Module):
    """x (..., I) -> x W^T + b (..., O); weight (O, I) as Hugging Face stores it. Values come from `initialise` or a file."""

    added: Added | None = None

    def __init__(self, inputs: int, outputs: int, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.added is not None and low_rank.light(self, biases=True):
            return low_rank.product(x, self)
        y = F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
        return y if self.added is None else self.added(x, y)

    @property
    def matrix(self) -> Tensor:
        """The weight as (O, I)."""
        return self.weight

    @property
    def learns(self) -> bool:
        """Whether the weight wants a gradient."""
        return self.weight.requires_grad


def bare(*layers: Linear) -> bool:
    """Whether the weights are all that there is, so that a fused pass may use them alone."""
    return all(isinstance(layer, Linear) and layer.bias is None and layer.added is None for layer in layers)


def whole(layer: "Linear") -> Tensor:
    """The matrix (O, I) of a layer without bias, with what is laid on it."""
    return layer.matrix if layer.added is None else layer(torch.eye(layer.matrix.size(1), device=layer.matrix.device)).t()


def lay_on(layer: nn.Module, added: Added | None) -> None:
    """Lay something on a layer without making it a part of it: its parameters stay where they are."""
    layer.__dict__["added"] = added


class Transposed(nn.Module):
    """x (..., I) -> x W + b (..., O); weight (I, O), the way GPT-2 checkpoints store theirs."""

    added: Added | None = None

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.added is not None and low_rank.light(self, biases=True):
            return low_rank.product(x, self)
        y = F.linear(x, self.weight.t().to(x.dtype), self.bias.to(x.dtype))
        return y if self.added is None else self.added(x, y)

    @property
    def matrix(self) -> Tensor:
        """The weight as (O, I)."""
        return self.weight.t()

    @property
    def learns(self) -> bool:
        """Whether the weight wants a gradient."""
        return self.weight.requires_grad


class Embedding(nn.Module):
    """ids (...) -> rows of weight (V, D)."""

    added: Added | None = None

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        rows = F.embedding(ids, self.weight)
        return rows if self.added is None else self.added(ids, rows)
