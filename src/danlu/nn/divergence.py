"""How far a model's next-token distributions are from a teacher's, without ever holding the logits of all tokens.

Forward and reverse Kullback-Leibler divergence and the generalised Jensen-Shannon divergence between them (Agarwal et al. 2023,
arXiv:2306.13649, eq. 1). A teacher that gives its likeliest K tokens only has one further outcome, "any other token": what is
found is then the divergence of the coarser distributions, which is never larger than the whole one.
N tokens, I of them at a time, D width, V vocabulary, K tokens kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danlu.nn.loss import soft_cap


@dataclass(frozen=True)
class Wanted:
    """What a teacher gives to I tokens, in nats; the probabilities of a token add up to 1."""

    logp: Tensor
    """(I, V), or (I, K + 1): of the K tokens, and of all others together."""
    ids: Tensor | None = None
    """(I, K) int64: which tokens; None: all."""


def divergence(logits_IV: Tensor, wanted: Wanted, beta: float, temperature: float = 1.0) -> Tensor:
    """(I,) float32, in nats, with a gradient for the logits.

    beta: 0 is KL(teacher || student), 1 is KL(student || teacher); between them beta KL(teacher || m) + (1 - beta) KL(student ||
    m) with m = beta teacher + (1 - beta) student. temperature: the student's logits are divided by it; the teacher's were.

    >>> teacher, student = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    >>> [divergence(student.log(), Wanted(teacher.log()), beta).item() for beta in (0.0, 1.0)]  # log(2) / 4 in both directions
    [0.1732867956161499, 0.1732867956161499]
    >>> top = Wanted(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0]]))
    >>> round(divergence(student.log(), top, 0.0).item(), 4)  # of (1/2, 1/2) from (1/4, 3/4)
    0.1438
    """
    student = (logits_IV / temperature if temperature != 1.0 else logits_IV).log_softmax(-1)
    if wanted.ids is not None:
        kept = student.gather(1, wanted.ids)
        student = torch.cat([kept, _rest(kept)[:, None]], 1)
    teacher = wanted.logp
    if beta == 0.0:
        return _kl(teacher, student)
    if beta == 1.0:
        return _kl(student, teacher)
    middle = torch.logaddexp(student + torch.tensor(1 - beta).log(), teacher + torch.tensor(beta).log())
    return beta * _kl(teacher, middle) + (1 - beta) * _kl(student, middle)


def linear_loss_sum(
    hidden_ND: Tensor, weight_VD: Tensor, loss: Callable[[Tensor, slice], Tensor], chunk: int = 256, *, cap: float | None = None,
    bias_V: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The sum of `loss(logits_IV, rows)` over chunks of tokens, a float32 scalar; `rows` says which tokens a chunk holds.

    As in loss.py the gradient is taken in the same visit, so that a chunk's logits are all that exists of logits.
    """
    total: Tensor = _LinearLoss.apply(hidden_ND, weight_VD, bias_V, loss, chunk, cap, torch.is_grad_enabled())
    return total


def linear_loss_sum_plain(
    hidden_ND: Tensor, weight_VD: Tensor, loss: Callable[[Tensor, slice], Tensor], *, cap: float | None = None,
    bias_V: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The definition: all logits at once."""
    logits_NV = (hidden_ND @ weight_VD.to(hidden_ND.dtype).t()).float()
    return loss(soft_cap(logits_NV if bias_V is None else logits_NV + bias_V, cap), slice(0, len(hidden_ND)))


class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, loss: Callable[[Tensor, slice], Tensor],
        chunk: int, cap: float | None, learn: bool,
    ) -> Tensor:  # fmt: skip
        weight = weight_VD.to(hidden_ND.dtype)
        wants_hidden, wants_weight, wants_bias = (learn and needed for needed in ctx.needs_input_grad[:3])
        learn = wants_hidden or wants_weight or wants_bias
        d_hidden = torch.zeros_like(hidden_ND) if wants_hidden else None
        d_weight = torch.zeros_like(weight_VD) if wants_weight else None
        d_bias = torch.zeros_like(bias_V) if bias_V is not None and wants_bias else None
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden_ND), chunk):
            rows = slice(start, min(start + chunk, len(hidden_ND)))
            logits_IV = (hidden_ND[rows] @ weight.t()).float()
            logits_IV = logits_IV if bias_V is None else logits_IV.add_(bias_V)
            with torch.set_grad_enabled(learn):
                logits_IV.requires_grad_(learn)
                found = loss(soft_cap(logits_IV, cap), rows)
                total += found.detach()
                error_IV = torch.autograd.grad(found, logits_IV)[0] if learn else None
            if error_IV is None:
                continue
            if d_bias is not None:
                d_bias += error_IV.sum(0)
            error_IV = error_IV.to(hidden_ND.dtype)
            if d_hidden is not None:
                torch.mm(error_IV, weight, out=d_hidden[rows])
            if d_weight is not None:
                d_weight += error_IV.t() @ hidden_ND[rows]
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (None if part is None else part * grads[0].to(part.dtype) for part in ctx.saved_tensors)
        return (*scaled, None, None, None, None)


def _kl(of: Tensor, from_: Tensor) -> Tensor:
    """KL(of || from_), summed over outcomes; an outcome of no probability adds nothing."""
    chance = of.exp()
    return (chance * (of - from_)).masked_fill(chance == 0, 0.0).sum(-1)


def _rest(kept_IK: Tensor) -> Tensor:
    """log(1 - sum of the probabilities): of all other tokens together, (I,)."""
    sum_I = kept_IK.logsumexp(-1).clamp(max=-1e-7)
    return torch.where(sum_I > -0.693, torch.log(-torch.expm1(sum_I)), torch.log1p(-torch.exp(sum_I)))
