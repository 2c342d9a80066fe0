"""What RWKV remembers: a fading mean of values (version 4, arXiv:2305.13048) and a matrix that corrects itself (7, 2503.14456).

Both are recurrences over tokens in memory of fixed size; a document begins with nothing remembered. A compiled pass keeps the
memory in the cache. B rows, T tokens, E channels; H heads, K channels of a key, V channels of a value.
"""

from typing import Any

import torch
from torch import Tensor

from danlu.nn import kernels

_PIECE = 16
"""Tokens between the states that the compiled pass keeps for the gradient: PIECE in scans.c."""
EMPTY = -1e38
"""Exponent of a mean over nothing."""


def previous(x_BTE: Tensor, fresh_BT: Tensor | None, before_BE: Tensor | None = None) -> Tensor:
    """The token before each, (B, T, E): zero at a document's first; `before_BE` stands before the row."""
    first_B1E = torch.zeros_like(x_BTE[:, :1]) if before_BE is None else before_BE[:, None].to(x_BTE.dtype)
    shifted_BTE = torch.cat([first_B1E, x_BTE[:, :-1]], 1)
    return shifted_BTE if fresh_BT is None else shifted_BTE.masked_fill(fresh_BT[..., None], 0.0)


def wkv_plain(
    w_E: Tensor, u_E: Tensor, k_BTE: Tensor, v_BTE: Tensor, state_B3E: Tensor, fresh_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition, one token after the other (arXiv:2305.13048, eq. 16 and appendix D, which keeps exponents apart).

    w is positive. A value weighs e^(key), fades by e^(-w) a token, and weighs e^(u + key) for its own token.
    state_B3E: sum and weight, both without the factor e^exponent, and the exponent.
    """
    total, weight, top = state_B3E.unbind(1)
    y = []
    for t in range(k_BTE.size(1)):
        k, v = k_BTE[:, t], v_BTE[:, t]
        if fresh_BT is not None:
            new = fresh_BT[:, t, None]
            total, weight, top = total.masked_fill(new, 0.0), weight.masked_fill(new, 0.0), top.masked_fill(new, EMPTY)
        most = torch.maximum(top, u_E + k)
        old, now = (top - most).exp(), (u_E + k - most).exp()
        y.append((old * total + now * v) / (old * weight + now))
        most = torch.maximum(top - w_E, k)
        old, now = (top - w_E - most).exp(), (k - most).exp()
        total, weight, top = old * total + now * v, old * weight + now, most
    return torch.stack(y, 1), torch.stack([total, weight, top], 1)


def wkv(
    w_E: Tensor, u_E: Tensor, k_BTE: Tensor, v_BTE: Tensor, state_B3E: Tensor, fresh_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What `wkv_plain` computes; no gradient flows through the states."""
    given = (w_E, u_E, k_BTE, v_BTE, state_B3E)
    if any(part.dtype != torch.float32 for part in given) or not kernels.usable(torch.float32, *given):
        return (wkv_plain if k_BTE.device.type == "cpu" else wkv_chunked)(*given, fresh_BT)
    learn = torch.is_grad_enabled() and any(part.requires_grad for part in given)
    y_BTE, after_B3E = _WKV.apply(*given, fresh_BT, learn)
    return y_BTE, after_B3E


def wkv_chunked(
    w_E: Tensor, u_E: Tensor, k_BTE: Tensor, v_BTE: Tensor, state_B3E: Tensor, fresh_BT: Tensor | None = None, chunk: int = 16
) -> tuple[Tensor, Tensor]:
    """The same by tensor operations, `chunk` tokens at once: within a chunk it is a softmax over the tokens before, a channel.

    What lies before the chunk is one token more, whose value is the mean so far and whose score is the logarithm of its weight.
    """
    total, weight, top = state_B3E.unbind(1)
    mean_BE, log_BE = total / weight.clamp(min=torch.finfo(weight.dtype).tiny), top + weight.log().clamp(min=EMPTY)
    starts_BT = torch.zeros_like(k_BTE[..., 0]) if fresh_BT is None else fresh_BT.cumsum(1).to(k_BTE.dtype)
    before_B, y = torch.zeros_like(starts_BT[:, 0]), []
    for k_BSE, v_BSE, starts_BS in zip(*(part.split(chunk, 1) for part in (k_BTE, v_BTE, starts_BT)), strict=True):
        at_S = torch.arange(k_BSE.size(1), device=k_BTE.device)
        apart_LS = (at_S[:, None] - at_S)[..., None].to(k_BTE.dtype)
        own = (starts_BS[:, :, None] == starts_BS[:, None, :]) & (at_S <= at_S[:, None])
        score_BLSE = torch.where(apart_LS == 0, u_E, -(apart_LS - 1) * w_E) + k_BSE[:, None]
        score_BLSE = score_BLSE.masked_fill(~own[..., None], -torch.inf)
        past_BLE = (log_BE[:, None] - at_S[:, None] * w_E).masked_fill((starts_BS != before_B[:, None])[..., None], EMPTY)
        share_BLSE = torch.cat([past_BLE[:, :, None], score_BLSE], 2).softmax(2)
        value_BSE = torch.cat([mean_BE[:, None], v_BSE], 1)
        y.append((share_BLSE * value_BSE[:, None]).sum(2))
        last_BSE = (k_BSE - (len(at_S) - 1 - at_S)[:, None] * w_E).masked_fill(~own[:, -1, :, None], -torch.inf)
        held_BE = (log_BE - len(at_S) * w_E).masked_fill((starts_BS[:, -1] != before_B)[:, None], EMPTY)
        end_BSE = torch.cat([held_BE[:, None], last_BSE], 1)
        mean_BE, log_BE, before_B = (end_BSE.softmax(1) * value_BSE).sum(1), end_BSE.logsumexp(1), starts_BS[:, -1]
    return torch.cat(y, 1), torch.stack([mean_BE, torch.ones_like(mean_BE), log_BE], 1)


class _WKV(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: Tensor, fresh: Tensor | None, learn: bool
    ) -> tuple[Tensor, Tensor]:
        w, u, k, v = (part.contiguous() for part in (w, u, k, v))
        rows, tokens, width = k.shape
        y, after = torch.empty_like(k), state.clone(memory_format=torch.contiguous_format)
        kept = k.new_empty(rows, -(-tokens // _PIECE), 3, width) if learn else None
        kernels.call("wkv", torch.float32, w, u, k, v, fresh, y, after, kept, rows, tokens, width)
        ctx.save_for_backward(w, u, k, v, fresh, kept)
        ctx.mark_non_differentiable(after)
        return y, after

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        w, u, k, v, fresh, kept = ctx.saved_tensors
        dw, du, dk, dv = k.new_zeros(len(k), len(w)), k.new_zeros(len(k), len(w)), torch.empty_like(k), torch.empty_like(k)
        kernels.call(
            "wkv_backward", torch.float32, grads[0].contiguous(), w, u, k, v, fresh, kept, dw, du, dk, dv, *k.shape
        )  # fmt: skip
        return dw.sum(0), du.sum(0), dk, dv, None, None, None


def delta_scan_plain(
    r_BTHK: Tensor, w_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, a_BTHK: Tensor, b_BTHK: Tensor, state_BHKV: Tensor,
    fresh_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The definition, one token after the other (arXiv:2503.14456, eq. 17 and 20; the state lies transposed here).

    S = S diag(w) + S a b^T + v k^T, y = S r: what key a holds is moved along b, then value v is stored under key k.
    """
    S_BHKV, y = state_BHKV, []
    for t in range(r_BTHK.size(1)):
        if fresh_BT is not None:
            S_BHKV = S_BHKV.masked_fill(fresh_BT[:, t, None, None, None], 0.0)
        r, w, k, v, a, b = (part[:, t] for part in (r_BTHK, w_BTHK, k_BTHK, v_BTHV, a_BTHK, b_BTHK))
        held_BHV = torch.einsum("bhkv,bhk->bhv", S_BHKV, a)
        S_BHKV = w[..., None] * S_BHKV + b[..., None] * held_BHV[:, :, None] + k[..., None] * v[:, :, None]
        y.append(torch.einsum("bhkv,bhk->bhv", S_BHKV, r))
    return torch.stack(y, 1), S_BHKV


def delta_scan(
    r_BTHK: Tensor, w_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, a_BTHK: Tensor, b_BTHK: Tensor, state_BHKV: Tensor,
    fresh_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What `delta_scan_plain` computes; no gradient flows through the states."""
    given = (r_BTHK, w_BTHK, k_BTHK, v_BTHV, a_BTHK, b_BTHK, state_BHKV)
    if any(part.dtype != torch.float32 for part in given) or not kernels.usable(torch.float32, *given):
        return delta_scan_plain(*given, fresh_BT)
    learn = torch.is_grad_enabled() and any(part.requires_grad for part in given)
    y_BTHV, after_BHKV = _DeltaScan.apply(*given, fresh_BT, learn)
    return y_BTHV, after_BHKV


class _DeltaScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        *parts, state, fresh, learn = given
        parts = [part.contiguous() for part in parts]
        v = parts[3]
        rows, tokens, heads, keys = parts[0].shape
        y, after = torch.empty_like(v), state.clone(memory_format=torch.contiguous_format)
        kept = v.new_empty(rows, heads, -(-tokens // _PIECE), keys, v.size(-1)) if learn else None
        kernels.call("delta_scan", torch.float32, *parts, fresh, y, after, kept, rows, tokens, heads, keys, v.size(-1))
        ctx.save_for_backward(*parts, fresh, kept)
        ctx.mark_non_differentiable(after)
        return y, after

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *parts, fresh, kept = ctx.saved_tensors
        found = [torch.empty_like(part) for part in parts]
        sizes = (*parts[0].shape, parts[3].size(-1))
        kernels.call("delta_scan_backward", torch.float32, grads[0].contiguous(), *parts, fresh, kept, *found, *sizes)
        return *found, None, None, None
