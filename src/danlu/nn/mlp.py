"""Gated feed-forward layer SwiGLU (Shazeer 2020, arXiv:2002.05202): down(silu(gate(x)) * up(x)).

The fast path keeps only x and the two products for the gradient, and the backward pass overwrites them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn import kernels
from danlu.nn.linear import Linear


def swiglu_plain(x: Tensor, gate_FD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
    """The definition, without biases: x (..., D) -> (..., D)."""
    return F.linear(F.silu(F.linear(x, gate_FD)) * F.linear(x, up_FD), down_DF)


def swiglu(x: Tensor, gate_FD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
    """What `swiglu_plain` computes, rounding the weights to x's type."""
    if kernels.usable(x.dtype, x, gate_FD, up_FD, down_DF):
        y: Tensor = _SwiGLU.apply(x, gate_FD, up_FD, down_DF)
        return y
    return swiglu_plain(x, *(weight.to(x.dtype) for weight in (gate_FD, up_FD, down_DF)))


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate_FD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
        x_ND = x.reshape(-1, x.size(-1))
        gate_NF, up_NF = x_ND @ gate_FD.to(x.dtype).t(), x_ND @ up_FD.to(x.dtype).t()
        act_NF = torch.empty_like(gate_NF)
        kernels.call("swiglu", x.dtype, gate_NF, up_NF, act_NF, *gate_NF.shape)
        ctx.save_for_backward(x_ND, gate_NF, up_NF, gate_FD, up_FD, down_DF)
        return (act_NF @ down_DF.to(x.dtype).t()).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x_ND, gate_NF, up_NF, gate_FD, up_FD, down_DF = ctx.saved_tensors
        dy_ND = grads[0].reshape(x_ND.shape)
        act_NF = dy_ND @ down_DF.to(dy_ND.dtype)
        torch.autograd.graph.increment_version((gate_NF, up_NF))  # a second backward pass through here is an error, not nonsense
        kernels.call("swiglu_backward", dy_ND.dtype, act_NF, gate_NF, up_NF, *gate_NF.shape)
        dx_ND = torch.addmm(gate_NF @ gate_FD.to(dy_ND.dtype), up_NF, up_FD.to(dy_ND.dtype))
        weights = ((gate_NF.t() @ x_ND, gate_FD), (up_NF.t() @ x_ND, up_FD), (dy_ND.t() @ act_NF, down_DF))
        d_gate, d_up, d_down = (grad.to(weight.dtype) for grad, weight in weights)
        return dx_ND.view(grads[0].shape), d_gate, d_up, d_down


class SwiGLU(nn.Module):
    """x (B, T, D) -> (B, T, D) through F inner channels."""

    def __init__(self, width: int, inner: int, bias: bool = False):
        super().__init__()
        self.gate_proj = Linear(width, inner, bias)
        self.up_proj = Linear(width, inner, bias)
        self.down_proj = Linear(inner, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate_proj.bias is None:
            return swiglu(x, self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
