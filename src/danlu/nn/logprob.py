"""Log-probabilities of given tokens under a linear head, one by one, without ever holding the logits of all tokens.

N tokens, D width, V vocabulary. Preference and policy objectives weigh every token by what they find out later, so, unlike
in loss.py, the gradient with respect to the matrix cannot be taken in the first visit: the backward pass computes each chunk's
logits again, and only their log-sums are kept (N numbers). Where the matrix does not learn (adapters), the gradient of each
token is taken at once and kept (N * D), and the backward pass only scales it.
"""

from typing import Any

import torch
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.nn import kernels
from danlu.nn.loss import soft_cap


def token_logprobs_plain(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, cap: float | None = None, bias_V: Tensor | None = None,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The definition: log softmax(soft_cap(hidden weight^T + bias) / temperature)[target], and that softmax's entropy. (N,) each,
    in nats; zero where a target of -100 asks for nothing."""
    logits_NV = (hidden_ND @ weight_VD.to(hidden_ND.dtype).t()).float()
    logits_NV = soft_cap(logits_NV if bias_V is None else logits_NV + bias_V, cap) / temperature
    log_NV, asked_N = logits_NV.log_softmax(-1), targets_N != NO_LABEL
    chosen_N = log_NV.gather(1, targets_N.clamp(min=0)[:, None])[:, 0]
    return chosen_N * asked_N, -(log_NV.exp() * log_NV).sum(-1).detach() * asked_N


def token_logprobs(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, cap: float | None = None, bias_V: Tensor | None = None,
    temperature: float = 1.0, chunk: int = 512,
) -> Tensor:  # fmt: skip
    """What `token_logprobs_plain` gives first, `chunk` tokens at a time: (N,) float32, with a gradient for all but the targets.

    temperature: that of the roll-outs which are scored. Raises IndexError for a target outside the vocabulary.
    """
    return _scored(hidden_ND, weight_VD, bias_V, targets_N, cap, temperature, chunk, False)[0]


def token_logprobs_and_entropy(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, cap: float | None = None, bias_V: Tensor | None = None,
    temperature: float = 1.0, chunk: int = 512,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Both that `token_logprobs_plain` gives; the entropy, for reports, has no gradient."""
    return _scored(hidden_ND, weight_VD, bias_V, targets_N, cap, temperature, chunk, True)


def _scored(
    hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, cap: float | None, temperature: float,
    chunk: int, entropy: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    asked = targets_N != NO_LABEL
    every = bool(asked.all())
    if not every:
        hidden_ND, targets_N = hidden_ND[asked], targets_N[asked]
    if len(targets_N) and not 0 <= int(targets_N.min()) <= int(targets_N.max()) < len(weight_VD):
        raise IndexError(f"a target lies outside the vocabulary of {len(weight_VD)}: {targets_N.min()} to {targets_N.max()}")
    found: tuple[Tensor, Tensor] = _TokenLogProbs.apply(
        hidden_ND, weight_VD, bias_V, targets_N, chunk, cap, 1.0 / temperature, entropy, torch.is_grad_enabled()
    )
    if every:
        return found
    chosen_N, spread_N = (torch.zeros_like(asked, dtype=part.dtype).masked_scatter(asked, part) for part in found)
    return chosen_N, spread_N


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, chunk: int,
        cap: float | None, scale: float, entropy: bool, learn: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        weight = weight_VD.to(hidden_ND.dtype)
        wants_hidden, wants_weight, wants_bias = (learn and needed for needed in ctx.needs_input_grad[:3])
        now = wants_hidden and not (wants_weight or wants_bias)
        d_hidden = torch.empty_like(hidden_ND) if now else None
        exact = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
        chosen_N, total_N, spread_N = (hidden_ND.new_zeros(len(targets_N), dtype=exact) for _ in range(3))
        for start in range(0, len(targets_N), chunk):
            rows = slice(start, start + chunk)
            logits_IV, target_I = _logits(hidden_ND[rows], weight, bias_V), targets_N[rows].contiguous()
            spread_I = spread_N[rows] if entropy else None
            _measure(logits_IV, target_I, cap, scale, chosen_N[rows], total_N[rows], spread_I)
            if d_hidden is not None:
                error_IV = _error(logits_IV, target_I, total_N[rows], torch.ones_like(total_N[rows]), cap, scale, bent=True)
                torch.mm(error_IV.to(hidden_ND.dtype), weight, out=d_hidden[rows])
        ctx.chunk, ctx.cap, ctx.scale = chunk, cap, scale
        kept = (d_hidden,) if now else (hidden_ND, weight_VD, bias_V, targets_N, total_N)
        ctx.save_for_backward(*(kept if learn else ()))
        ctx.mark_non_differentiable(spread_N)
        return chosen_N, spread_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_N, none = grads[0].contiguous(), (None,) * 6
        if len(ctx.saved_tensors) == 1:
            (d_hidden,) = ctx.saved_tensors
            return d_hidden * grad_N[:, None].to(d_hidden.dtype), None, None, *none
        hidden_ND, weight_VD, bias_V, targets_N, total_N = ctx.saved_tensors
        weight = weight_VD.to(hidden_ND.dtype)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden_ND) if wants_hidden else None
        d_weight = torch.zeros_like(weight_VD) if wants_weight else None
        d_bias = torch.zeros_like(bias_V) if wants_bias else None
        for start in range(0, len(targets_N), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            logits_IV, target_I = _logits(hidden_ND[rows], weight, bias_V), targets_N[rows].contiguous()
            error_IV = _error(logits_IV, target_I, total_N[rows], grad_N[rows], ctx.cap, ctx.scale, bent=False)
            if d_bias is not None:
                d_bias += error_IV.sum(0)
            error_IV = error_IV.to(hidden_ND.dtype)
            if d_hidden is not None:
                torch.mm(error_IV, weight, out=d_hidden[rows])
            if d_weight is not None:
                if d_weight.dtype == error_IV.dtype:
                    d_weight.addmm_(error_IV.t(), hidden_ND[rows])
                else:
                    d_weight += error_IV.t() @ hidden_ND[rows]
        return d_hidden, d_weight, d_bias, *none


def _logits(hidden_ID: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    """In float32, as a new tensor; float64 stays, so that gradients can be checked."""
    logits_IV = torch.mm(hidden_ID, weight_VD.t())
    logits_IV = logits_IV if logits_IV.dtype == torch.float64 else logits_IV.float()
    return logits_IV if bias_V is None else logits_IV.add_(bias_V)


def _bend(logits_IV: Tensor, cap: float | None, scale: float) -> Tensor:
    """Capped and divided by the temperature, in place."""
    if cap is not None:
        logits_IV.div_(cap).tanh_().mul_(cap)
    return logits_IV if scale == 1.0 else logits_IV.mul_(scale)


def _measure(
    logits_IV: Tensor, target_I: Tensor, cap: float | None, scale: float, chosen_I: Tensor, total_I: Tensor,
    spread_I: Tensor | None,
) -> None:  # fmt: skip
    """Log-probabilities, log-sums and entropies into tensors that are there; the logits are bent in place."""
    if kernels.usable(logits_IV.dtype, logits_IV, target_I):
        kernels.call("log_probabilities", torch.float32, logits_IV, target_I, cap or 0.0, scale, chosen_I, total_I, spread_I,
                     *logits_IV.shape)  # fmt: skip
        return
    _bend(logits_IV, cap, scale)
    total_I.copy_(logits_IV.logsumexp(1))
    chosen_I.copy_(logits_IV.gather(1, target_I[:, None])[:, 0]).sub_(total_I)
    if spread_I is not None:
        spread_I.copy_(total_I - ((logits_IV - total_I[:, None]).exp_() * logits_IV).sum(1))


def _error(
    logits_IV: Tensor, target_I: Tensor, total_I: Tensor, grad_I: Tensor, cap: float | None, scale: float, bent: bool
) -> Tensor:
    """The logits become the gradient of sum(grad * log-probability) with respect to the product, in place."""
    if kernels.usable(logits_IV.dtype, logits_IV, target_I):
        kernels.call("log_probability_error", torch.float32, logits_IV, target_I, total_I, grad_I, cap or 0.0, scale, int(bent),
                     *logits_IV.shape)  # fmt: skip
        return logits_IV
    if not bent:
        _bend(logits_IV, cap, scale)
    slope_IV = None if cap is None else 1 - (logits_IV / (scale * cap)).square_()
    logits_IV.sub_(total_I[:, None]).exp_().neg_().scatter_add_(1, target_I[:, None], torch.ones_like(logits_IV[:, :1]))
    logits_IV.mul_((grad_I * scale).to(logits_IV.dtype)[:, None])
    return logits_IV if slope_IV is None else logits_IV.mul_(slope_IV)
