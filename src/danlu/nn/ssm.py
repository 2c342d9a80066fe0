"""State-space scans: Mamba's selective scan (Gu & Dao 2023, arXiv:2312.00752) and Mamba-2's dual form (arXiv:2405.21060).

Both read h[t] = decay[t] h[t-1] + dt[t] B[t] x[t] and answer y[t] = C[t] h[t]; a document begins with h = 0. Mamba's decay
differs in every channel and state, so that tokens must follow one another: a compiled pass keeps h in the cache, elsewhere
chunks run side by side. Mamba-2's is one number a head, so that a chunk of tokens is a few matrix products.

No exponential here is of a positive number: products of decays are at most one, however long the row.
B rows, T tokens, E channels, N states, H heads, P channels of a head, G groups of heads that share B and C, K chunks of C
tokens (L and S number the tokens of a chunk).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.nn import kernels
from danlu.nn.init import uniform

_PIECE = 16
"""Tokens between the states that the compiled pass keeps for the gradient: PIECE in scans.c."""
_LANES = 64
"""Channels of one of its tasks: LANES in scans.c."""


def selective_scan_plain(
    x_BTE: Tensor, dt_BTE: Tensor, A_NE: Tensor, B_BTN: Tensor, C_BTN: Tensor, state_BNE: Tensor, fresh_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition, one token after the other (arXiv:2312.00752, eq. 2 with section 3.2's discretisation).

    A is negative, dt positive. state_BNE: what was remembered before. fresh_BT: True where a document begins.
    Returns y (B, T, E) and the state after the last token.
    """
    h_BNE, y = state_BNE, []
    for t in range(x_BTE.size(1)):
        if fresh_BT is not None:
            h_BNE = h_BNE.masked_fill(fresh_BT[:, t, None, None], 0.0)
        dt_B1E = dt_BTE[:, t, None]
        h_BNE = (dt_B1E * A_NE).exp() * h_BNE + B_BTN[:, t, :, None] * (dt_B1E * x_BTE[:, t, None])
        y.append((C_BTN[:, t, :, None] * h_BNE).sum(1))
    return torch.stack(y, 1), h_BNE


def selective_scan(
    x_BTE: Tensor, dt_BTE: Tensor, A_NE: Tensor, B_BTN: Tensor, C_BTN: Tensor, state_BNE: Tensor, fresh_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What `selective_scan_plain` computes; no gradient flows through the states."""
    given = (x_BTE, dt_BTE, A_NE, B_BTN, C_BTN, state_BNE)
    if any(part.dtype != torch.float32 for part in given) or not kernels.usable(torch.float32, *given):
        # The processor is bound by memory, which the plain form visits least; other devices by the number of operations.
        return (selective_scan_plain if x_BTE.device.type == "cpu" else selective_scan_chunked)(*given, fresh_BT)
    learn = torch.is_grad_enabled() and any(part.requires_grad for part in given)
    y_BTE, after_BNE = _SelectiveScan.apply(*given, fresh_BT, learn)
    return y_BTE, after_BNE


def selective_scan_chunked(
    x_BTE: Tensor, dt_BTE: Tensor, A_NE: Tensor, B_BTN: Tensor, C_BTN: Tensor, state_BNE: Tensor,
    fresh_BT: Tensor | None = None, chunk: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same by tensor operations alone: all chunks at once from an empty state, then the states between chunks.

    With chunks of about the root of T tokens (the default) that is 2 sqrt(T) operations in a row instead of T.
    """
    tokens = x_BTE.size(1)
    chunk = chunk or max(1, round(tokens**0.5))
    spare = -tokens % chunk
    decay_BTNE = (dt_BTE[:, :, None] * A_NE).exp()
    if fresh_BT is not None:
        decay_BTNE = decay_BTNE.masked_fill(fresh_BT[..., None, None], 0.0)
    input_BTNE = B_BTN[..., None] * (dt_BTE * x_BTE)[:, :, None]
    decay = F.pad(decay_BTNE, (0, 0, 0, 0, 0, spare), value=1.0).unflatten(1, (-1, chunk))
    input_ = F.pad(input_BTNE, (0, 0, 0, 0, 0, spare)).unflatten(1, (-1, chunk))
    h, through = torch.zeros_like(input_[:, :, 0]), torch.ones_like(input_[:, :, 0])
    inside, reach = [], []
    for fade, write in zip(decay.unbind(2), input_.unbind(2), strict=True):
        h, through = fade * h + write, fade * through
        inside.append(h)
        reach.append(through)
    before, state = [], state_BNE
    for fade, made in zip(through.unbind(1), h.unbind(1), strict=True):
        before.append(state)
        state = fade * state + made
    h_BKCNE = torch.stack(inside, 2) + torch.stack(reach, 2) * torch.stack(before, 1)[:, :, None]
    return torch.einsum("btne,btn->bte", h_BKCNE.flatten(1, 2)[:, :tokens], C_BTN), state


def step_biases(count: int, least: float, most: float, floor: float, generator: torch.Generator) -> Tensor:
    """Biases (count,) whose softplus are time steps spread evenly in their logarithm between `least` and `most`.

    Source: arXiv:2312.00752, section 3.6; steps below `floor` are raised to it.

    >>> bias = step_biases(3, 0.01, 0.01, 0.0, torch.Generator())
    >>> F.softplus(bias).round(decimals=4)
    tensor([0.0100, 0.0100, 0.0100])
    """
    share = torch.rand(count, generator=generator, device=generator.device)
    dt = (math.log(least) + share * math.log(most / least)).exp().clamp(min=floor)
    return dt + (-torch.expm1(-dt)).log()  # the inverse of softplus


def first_values(name: str, parameter: Tensor, generator: torch.Generator, depth: int) -> Tensor | None:
    """As the authors' code begins: D one; taps and projections even within 1/sqrt(inputs), those out of a layer less by depth."""
    if name.endswith(".D"):
        return torch.ones_like(parameter)
    if name.endswith(("conv1d.weight", "in_proj.weight", "x_proj.weight", "out_proj.weight")):
        fewer = depth**-0.5 if name.endswith("out_proj.weight") else 1.0
        return uniform(parameter, fewer * parameter.size(-1) ** -0.5, generator)
    return None


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A_NE: Tensor, B: Tensor, C: Tensor, state: Tensor, fresh: Tensor | None, learn: bool
    ) -> tuple[Tensor, Tensor]:
        x, dt, A_NE, B, C = (part.contiguous() for part in (x, dt, A_NE, B, C))
        rows, tokens, width = x.shape
        y, after = torch.empty_like(x), state.clone(memory_format=torch.contiguous_format)
        kept = x.new_empty(rows, -(-tokens // _PIECE), *A_NE.shape) if learn else None
        kernels.call("selective_scan", torch.float32, x, dt, A_NE, B, C, fresh, y, after, kept, rows, tokens, width, len(A_NE))
        ctx.save_for_backward(x, dt, A_NE, B, C, fresh, kept)
        ctx.mark_non_differentiable(after)
        return y, after

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A_NE, B, C, fresh, kept = ctx.saved_tensors
        rows, tokens, width = x.shape
        dx, ddt, dA = torch.empty_like(x), torch.empty_like(x), x.new_zeros(rows, *A_NE.shape)
        dB, dC = (x.new_empty(-(-width // _LANES), *B.shape) for _ in range(2))
        kernels.call(
            "selective_scan_backward", torch.float32, grads[0].contiguous(), x, dt, A_NE, B, C, fresh, kept, dx, ddt, dA, dB, dC,
            rows, tokens, width, len(A_NE),
        )  # fmt: skip
        return dx, ddt, dA.sum(0), dB.sum(0), dC.sum(0), None, None, None


def dual_scan_plain(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    state_BHPN: Tensor,
    fresh_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The definition, one token after the other (arXiv:2405.21060, eq. 2 with a scalar times the identity for A)."""
    heads, h_BHPN, y = x_BTHP.size(2), state_BHPN, []
    B_BTHN, C_BTHN = (part.repeat_interleave(heads // part.size(2), dim=2) for part in (B_BTGN, C_BTGN))
    for t in range(x_BTHP.size(1)):
        if fresh_BT is not None:
            h_BHPN = h_BHPN.masked_fill(fresh_BT[:, t, None, None, None], 0.0)
        write = (dt_BTH[:, t, :, None] * x_BTHP[:, t])[..., None] * B_BTHN[:, t, :, None]
        h_BHPN = (dt_BTH[:, t] * A_H).exp()[..., None, None] * h_BHPN + write
        y.append((h_BHPN * C_BTHN[:, t, :, None]).sum(-1))
    return torch.stack(y, 1), h_BHPN


def dual_scan(
    x_BTHP: Tensor, dt_BTH: Tensor, A_H: Tensor, B_BTGN: Tensor, C_BTGN: Tensor, state_BHPN: Tensor,
    documents_BT: Tensor | None = None, chunk: int = 64,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What `dual_scan_plain` computes, a chunk at a time by matrix products (arXiv:2405.21060, section 6).

    documents_BT: which document a token belongs to, non-decreasing along a row. No gradient flows through the states.
    Inside a chunk a token reads those before it as attention does, its weights faded by the decay between the two; what lies
    before the chunk comes from the state.
    """
    tokens, heads, groups = *x_BTHP.shape[1:3], B_BTGN.size(2)
    chunk = min(chunk, tokens)
    spare = -tokens % chunk

    def cut(part: Tensor) -> Tensor:
        """(B, T, ...) to (B, K, chunk, ...), filled up with tokens that neither fade nor write."""
        return F.pad(part, (0, 0) * (part.dim() - 2) + (0, spare)).unflatten(1, (-1, chunk))

    B_BKGSN, C_BKGLN = (cut(part).transpose(2, 3) for part in (B_BTGN, C_BTGN))
    write_BKHSP = cut(x_BTHP * dt_BTH[..., None]).transpose(2, 3)
    since_BKHL = cut((dt_BTH * A_H).double()).cumsum(2).transpose(2, 3)  # double: differences of long sums must stay exact
    fade_BKHLS = (since_BKHL[..., None] - since_BKHL[..., None, :]).float()
    left_BKHS, reach_BKHL = (since_BKHL[..., -1:] - since_BKHL).float().exp(), since_BKHL.float().exp()
    hidden = torch.ones(chunk, chunk, dtype=torch.bool, device=x_BTHP.device).triu(1)
    goes_on = None
    if documents_BT is not None:
        own_BKC = F.pad(documents_BT, (0, spare), mode="replicate").unflatten(1, (-1, chunk))
        last_BK = own_BKC[..., -1]
        came_BK = torch.cat([own_BKC[:, :1, 0], last_BK[:, :-1]], 1)
        hidden = (hidden | (own_BKC[..., None] != own_BKC[..., None, :]))[:, :, None]
        left_BKHS = left_BKHS * (own_BKC == last_BK[..., None])[:, :, None]
        reach_BKHL = reach_BKHL * (own_BKC == came_BK[..., None])[:, :, None]
        goes_on = (last_BK == came_BK)[..., None]
    score_BKGLS = C_BKGLN @ B_BKGSN.mT
    weight_BKHLS = fade_BKHLS.masked_fill(hidden, -torch.inf).exp() * score_BKGLS.repeat_interleave(heads // groups, dim=2)
    y_BKHLP = weight_BKHLS @ write_BKHSP

    written = (write_BKHSP * left_BKHS[..., None]).unflatten(2, (groups, -1))  # (B, K, G, H/G, S, P)
    made = torch.einsum("bkgrsp,bkgsn->bkgrpn", written, B_BKGSN).flatten(2, 3)  # (B, K, H, P, N)
    through_BKH = since_BKHL[..., -1].float().exp()
    through_BKH = through_BKH if goes_on is None else through_BKH * goes_on
    before, state = [], state_BHPN
    for fade_BH, new in zip(through_BKH.unbind(1), made.unbind(1), strict=True):
        before.append(state)
        state = fade_BH[..., None, None] * state + new
    if len(before) > 1 or bool(state_BHPN.any()):
        held = torch.stack(before, 1).unflatten(2, (groups, -1))
        read = torch.einsum("bkgln,bkgrpn->bkgrlp", C_BKGLN, held).flatten(2, 3)
        y_BKHLP = y_BKHLP + read * reach_BKHL[..., None]
    return y_BKHLP.transpose(2, 3).flatten(1, 2)[:, :tokens], state.detach()
