"""Gated feed-forward layer SwiGLU (Shazeer 2020, arXiv:2002.05202): down(silu(gate(x)) * up(x)) of the normed stream.

The fast path keeps only the stream and the two products for the gradient, and the backward pass overwrites the latter.
N tokens, D width, F inner channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn import kernels, low_rank
from danlu.nn.linear import Linear, bare
from danlu.nn.norm import RMSNorm, fusible, normalise, normalise_back
from danlu.nn.project import project_plain


class SwiGLU(nn.Module):
    """x (B, T, D), normed by the block's norm -> (B, T, D) through F inner channels."""

    def __init__(self, width: int, inner: int, bias: bool = False):
        super().__init__()
        self.gate_proj = Linear(width, inner, bias)
        self.up_proj = Linear(width, inner, bias)
        self.down_proj = Linear(inner, width, bias)

    def forward(self, x: Tensor, norm: RMSNorm) -> Tensor:
        dtype, layers = norm.compute_dtype or x.dtype, (self.gate_proj, self.up_proj, self.down_proj)
        if low_rank.servable(x, norm, dtype, layers):
            return low_rank.swiglu(x, norm, dtype, layers)
        if not bare(*layers) or not fusible(x, norm.gain, dtype):
            return self.plain(x, norm)
        y: Tensor = _SwiGLU.apply(x, norm.gain, norm.eps, dtype, *(layer.weight for layer in layers))
        return y

    def plain(self, x: Tensor, norm: RMSNorm) -> Tensor:
        """The definition."""
        gate, up = project_plain(x, norm, self.gate_proj, self.up_proj)
        return self.down_proj(F.silu(gate) * up)


class FusedSwiGLU(nn.Module):
    """The same, gate and up in one matrix, the gate first (Phi-3)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_up_proj = Linear(width, 2 * inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor, norm: RMSNorm) -> Tensor:
        dtype = norm.compute_dtype or x.dtype
        if not bare(self.gate_up_proj, self.down_proj) or not fusible(x, norm.gain, dtype):
            return self.plain(x, norm)
        y: Tensor = _SwiGLU.apply(x, norm.gain, norm.eps, dtype, *self.gate_up_proj.weight.chunk(2), self.down_proj.weight)
        return y

    def plain(self, x: Tensor, norm: RMSNorm) -> Tensor:
        """The definition."""
        gate, up = self.gate_up_proj(norm(x)).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm_D: Tensor, eps: float, dtype: torch.dtype, gate_FD: Tensor, up_FD: Tensor, down_DF: Tensor
    ) -> Tensor:
        x = x.contiguous()
        normed, rstd = normalise(x, norm_D, eps, dtype)
        normed_ND = normed.view(-1, x.size(-1))
        gate_NF, up_NF = normed_ND @ gate_FD.to(dtype).t(), normed_ND @ up_FD.to(dtype).t()
        act_NF = torch.empty_like(gate_NF)
        kernels.call("swiglu", dtype, gate_NF, up_NF, act_NF, *gate_NF.shape)
        ctx.save_for_backward(x, norm_D, rstd, gate_NF, up_NF, gate_FD, up_FD, down_DF)
        ctx.eps = eps
        return torch.mm(act_NF, down_DF.to(dtype).t(), out=normed_ND).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_D, rstd, gate_NF, up_NF, gate_FD, up_FD, down_DF = ctx.saved_tensors
        dy_ND = grads[0].reshape(len(gate_NF), -1)
        dtype = dy_ND.dtype
        act_NF = dy_ND @ down_DF.to(dtype)
        torch.autograd.graph.increment_version((gate_NF, up_NF))  # a second backward pass through here is an error, not nonsense
        kernels.call("swiglu_backward", dtype, act_NF, gate_NF, up_NF, *gate_NF.shape)
        normed_ND = normalise(x, norm_D, ctx.eps, dtype)[0].view(dy_ND.shape)
        products = ((gate_NF, normed_ND, gate_FD), (up_NF, normed_ND, up_FD), (dy_ND, act_NF, down_DF))
        needs = ctx.needs_input_grad[4:]
        d_weights = [
            (left.t() @ right).to(weight.dtype) if needed else None
            for (left, right, weight), needed in zip(products, needs, strict=True)
        ]
        d_normed_ND = torch.mm(gate_NF, gate_FD.to(dtype), out=normed_ND).addmm_(up_NF, up_FD.to(dtype))
        return *normalise_back(d_normed_ND, x, norm_D, rstd), None, None, *d_weights
