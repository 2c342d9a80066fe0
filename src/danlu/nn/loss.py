"""Cross entropy of a linear head without ever holding the logits of all tokens.

N tokens, D width, V vocabulary. The logits of a few hundred labelled tokens exist at a time; their gradient is taken in
the same visit, so that the backward pass has nothing left to do but to scale. Peak memory falls from N * V to chunk * V.
Source of the idea: Liger kernels (arXiv:2410.10989), section 3.2.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.nn import kernels


def soft_cap(logits: Tensor, cap: float | None) -> Tensor:
    """Logits bent into (-cap, cap) (Gemma 2, arXiv:2408.00118, section 2); unchanged without a cap."""
    return logits if cap is None else cap * (logits / cap).tanh()


def linear_cross_entropy_sum_plain(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, cap: float | None = None, bias_V: Tensor | None = None
) -> Tensor:
    """The definition: sum over labelled tokens of -log softmax(soft_cap(hidden weight^T + bias))[target], in nats."""
    logits_NV = soft_cap(_logits(hidden_ND, weight_VD.to(hidden_ND.dtype), bias_V), cap)
    return F.cross_entropy(logits_NV, targets_N, ignore_index=NO_LABEL, reduction="sum")


def linear_cross_entropy_sum(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, chunk: int = 512, *, cap: float | None = None,
    bias_V: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """What `linear_cross_entropy_sum_plain` computes, `chunk` labelled tokens at a time. A float32 scalar in nats.

    Raises IndexError for a target outside the vocabulary.
    """
    labelled = targets_N != NO_LABEL
    if not bool(labelled.all()):
        hidden_ND, targets_N = hidden_ND[labelled], targets_N[labelled]
    if len(targets_N) and not 0 <= int(targets_N.min()) <= int(targets_N.max()) < len(weight_VD):
        raise IndexError(f"a target lies outside the vocabulary of {len(weight_VD)}: {targets_N.min()} to {targets_N.max()}")
    loss: Tensor = _LinearCrossEntropy.apply(hidden_ND, weight_VD, bias_V, targets_N, chunk, cap, torch.is_grad_enabled())
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, chunk: int,
        cap: float | None, learn: bool,
    ) -> Tensor:  # fmt: skip
        weight = weight_VD.to(hidden_ND.dtype)
        wants_hidden, wants_weight, wants_bias = (learn and needed for needed in ctx.needs_input_grad[:3])
        d_hidden = torch.empty_like(hidden_ND) if wants_hidden else None
        d_weight = torch.zeros_like(weight_VD) if wants_weight else None
        d_bias = torch.zeros_like(bias_V) if bias_V is not None and wants_bias else None
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets_N), chunk):
            rows = slice(start, start + chunk)
            hidden_ID = hidden_ND[rows]
            logits_IV = _logits(hidden_ID, weight, bias_V)
            total += _loss_and_error(logits_IV, targets_N[rows], cap)
            if not (wants_hidden or wants_weight or wants_bias):
                continue
            if d_bias is not None:
                d_bias += logits_IV.sum(0)
            error_IV = logits_IV.to(hidden_ND.dtype)
            if d_hidden is not None:
                torch.mm(error_IV, weight, out=d_hidden[rows])
            if d_weight is not None:
                _add_product(d_weight, error_IV, hidden_ID)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None, None]:
        scaled = (None if part is None else part * grads[0].to(part.dtype) for part in ctx.saved_tensors)
        return (*scaled, None, None, None, None)  # type: ignore[return-value]


def _logits(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    """In float32, as a new tensor: the bias is added after the product, so that it keeps its precision."""
    logits_NV = F.linear(hidden_ND, weight_VD).float()
    return logits_NV if bias_V is None else logits_NV.add_(bias_V)


def _loss_and_error(logits_IV: Tensor, target_I: Tensor, cap: float | None) -> Tensor:
    """Sum of the losses; the logits become their own gradient in place."""
    if kernels.usable(torch.float32, logits_IV, target_I):
        loss_I = logits_IV.new_empty(len(target_I))
        kernels.call("cross_entropy", torch.float32, logits_IV, target_I.contiguous(), cap or 0.0, loss_I, *logits_IV.shape)
        return loss_I.sum()
    if cap is not None:
        logits_IV.div_(cap).tanh_().mul_(cap)
    slope_IV = None if cap is None else 1 - (logits_IV / cap).square()
    at_I1 = target_I[:, None]
    chosen_I1, top_I1 = logits_IV.gather(1, at_I1), logits_IV.amax(1, keepdim=True)
    sum_I1 = logits_IV.sub_(top_I1).exp_().sum(1, keepdim=True)
    logits_IV.div_(sum_I1).scatter_add_(1, at_I1, torch.full_like(chosen_I1, -1.0))
    if slope_IV is not None:
        logits_IV.mul_(slope_IV)
    return (sum_I1.log() + top_I1 - chosen_I1).sum()


def _add_product(total_VD: Tensor, error_IV: Tensor, hidden_ID: Tensor) -> None:
    if total_VD.dtype == error_IV.dtype:
        total_VD.addmm_(error_IV.t(), hidden_ID)
    else:
        total_VD += error_IV.t() @ hidden_ID
