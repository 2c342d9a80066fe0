"""A matrix whose weight keeps full precision and is rounded to the input's where the two differ.

Master weights stay float32 while activations may be bfloat16 (models/precision.py): the cast is one read of the weight a
step, costs nothing when the types agree, and autograd brings the gradient back to the weight's own type.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """x (..., I) -> x W^T + b (..., O); weight (O, I) as Hugging Face stores it. Values come from `initialise` or a file."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


def project(x: Tensor, *layers: Linear) -> tuple[Tensor, ...]:
    """The same x through several matrices; its gradients are summed inside the products instead of one by one."""
    if any(layer.bias is not None or type(layer.weight) is not nn.Parameter for layer in layers):
        return tuple(layer(x) for layer in layers)
    products: tuple[Tensor, ...] = _Project.apply(x, *(layer.weight for layer in layers))
    return products


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *weights)
        return tuple(F.linear(x, weight.to(x.dtype)) for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, *weights = ctx.saved_tensors
        x_ND = x.reshape(-1, x.size(-1))
        grads_NO = [grad.reshape(len(x_ND), -1) for grad in grads]
        dx_ND = grads_NO[0] @ weights[0].to(x.dtype)
        for grad_NO, weight in zip(grads_NO[1:], weights[1:], strict=True):
            dx_ND.addmm_(grad_NO, weight.to(x.dtype))
        return dx_ND.view(x.shape), *((grad.t() @ x_ND).to(w.dtype) for grad, w in zip(grads_NO, weights, strict=True))


class Transposed(nn.Module):
    """x (..., I) -> x W + b (..., O); weight (I, O), the way GPT-2 checkpoints store theirs."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t().to(x.dtype), self.bias.to(x.dtype))


class Embedding(nn.Module):
    """ids (...) -> rows of weight (V, D)."""

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)
