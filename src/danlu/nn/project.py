"""The normed stream through several matrices at once: what every block begins with.

The fast path keeps the stream alone and norms it again for the gradient, which costs one pass and saves a copy of the
stream a layer; gradients of the matrices' common input are summed inside the products. N tokens, D width, O outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.nn import low_rank
from danlu.nn.linear import Linear, bare
from danlu.nn.norm import RMSNorm, fusible, normalise, normalise_back


def project_plain(x: Tensor, norm: RMSNorm, *layers: Linear) -> tuple[Tensor, ...]:
    """The definition: each layer of the normed x (..., D)."""
    normed = norm(x)
    return tuple(layer(normed) for layer in layers)


def project(x: Tensor, norm: RMSNorm, *layers: Linear) -> tuple[Tensor, ...]:
    """What `project_plain` computes."""
    dtype = norm.compute_dtype or x.dtype
    if low_rank.servable(x, norm, dtype, layers):
        return low_rank.project(x, norm, dtype, layers)
    if not bare(*layers) or not fusible(x, norm.gain, dtype):
        return project_plain(x, norm, *layers)
    products: tuple[Tensor, ...] = _Project.apply(x, norm.gain, norm.eps, dtype, *(layer.weight for layer in layers))
    return products


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm_D: Tensor, eps: float, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        x = x.contiguous()
        normed, rstd = normalise(x, norm_D, eps, dtype)
        ctx.save_for_backward(x, norm_D, rstd, *weights)
        ctx.eps = eps
        return tuple(F.linear(normed, weight.to(dtype)) for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_D, rstd, *weights = ctx.saved_tensors
        grads_NO = [grad.reshape(rstd.numel(), -1) for grad in grads]
        dtype = grads_NO[0].dtype
        normed_ND = normalise(x, norm_D, ctx.eps, dtype)[0].view(len(grads_NO[0]), -1)
        d_weights = [
            (grad.t() @ normed_ND).to(weight.dtype) if needed else None
            for grad, weight, needed in zip(grads_NO, weights, ctx.needs_input_grad[4:], strict=True)
        ]
        d_normed_ND = torch.mm(grads_NO[0], weights[0].to(dtype), out=normed_ND)
        for grad, weight in zip(grads_NO[1:], weights[1:], strict=True):
            d_normed_ND.addmm_(grad, weight.to(dtype))
        return *normalise_back(d_normed_ND, x, norm_D, rstd), None, None, *d_weights
