"""Many small SwiGLU layers, of which each token takes a few: the tokens of one expert stand together and meet its matrices once.

Dropless (Gale et al. 2022, MegaBlocks, arXiv:2211.15841): every token reaches every expert it chose, however crowded. The
(token, choice) pairs are sorted by expert, and one grouped product serves all experts. N tokens, K choices of each, P = N K
pairs, E experts, D width, F inner channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn import kernels

_ALIGNED_BYTES = 16
"""torch's grouped product wants rows that begin at multiples of this."""


class Experts(nn.Module):
    """x (N, D), the experts (N, K) that each token takes and their shares (N, K) -> (N, D).

    gate_up_proj (E, 2F, D) holds the gate above the up projection, down_proj (E, D, F): as transformers holds them in memory.
    """

    def __init__(self, experts: int, width: int, inner: int):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))

    def forward(self, x_ND: Tensor, expert_NK: Tensor, share_NK: Tensor) -> Tensor:
        return mix(x_ND, expert_NK, share_NK, self.gate_up_proj, self.down_proj)

    def plain(self, x_ND: Tensor, expert_NK: Tensor, share_NK: Tensor) -> Tensor:
        """The definition, one token and one expert at a time."""
        gate_up_EID, down_EDF = self.gate_up_proj.to(x_ND.dtype), self.down_proj.to(x_ND.dtype)
        rows = []
        for x_D, chosen, shares in zip(x_ND, expert_NK.tolist(), share_NK.to(x_ND.dtype), strict=True):
            y_D = torch.zeros_like(x_D)
            for expert, share in zip(chosen, shares, strict=True):
                gate_F, up_F = (gate_up_EID[expert] @ x_D).chunk(2)
                y_D = y_D + share * (down_EDF[expert] @ (F.silu(gate_F) * up_F))
            rows.append(y_D)
        return torch.stack(rows) if rows else torch.zeros_like(x_ND)


@torch.compiler.disable  # the number of tokens of an expert is known only when it runs
def mix(x_ND: Tensor, expert_NK: Tensor, share_NK: Tensor, gate_up_EID: Tensor, down_EDF: Tensor) -> Tensor:
    """What `Experts.plain` computes, by grouped products."""
    order_P = expert_NK.flatten().argsort(stable=True)
    ends_E = expert_NK.flatten().bincount(minlength=len(down_EDF)).cumsum(0).to(torch.int32)
    y_ND: Tensor = _Mix.apply(x_ND, order_P, ends_E, share_NK, gate_up_EID, down_EDF)
    return y_ND


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, order_P: Tensor, ends_E: Tensor, share_NK: Tensor, gate_up_EID: Tensor, down_EDF: Tensor
    ) -> Tensor:
        dtype, choices = x_ND.dtype, share_NK.size(1)
        share_P = share_NK.float().flatten()[order_P]
        x_PD = x_ND.index_select(0, order_P // choices)
        pair_PI = _each_by_its_own(x_PD, gate_up_EID.to(dtype).mT, ends_E)
        act_PF = _gated(pair_PI, share_P)
        y_PD = _each_by_its_own(act_PF, down_EDF.to(dtype).mT, ends_E)
        place_NK = (
            torch.empty_like(order_P).scatter_(0, order_P, torch.arange(len(order_P), device=order_P.device)).view_as(share_NK)
        )
        ctx.save_for_backward(x_ND, order_P, place_NK, ends_E, share_P, pair_PI, gate_up_EID, down_EDF)
        ctx.share_dtype = share_NK.dtype
        return _sum_choices(y_PD, place_NK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, order_P, place_NK, ends_E, share_P, pair_PI, gate_up_EID, down_EDF = ctx.saved_tensors
        dtype, token_P = x_ND.dtype, order_P // place_NK.size(1)
        dy_PD = grads[0].to(dtype).index_select(0, token_P)
        act_PF = _each_by_its_own(dy_PD, down_EDF.to(dtype), ends_E)
        torch.autograd.graph.increment_version(pair_PI)  # a second backward pass through here is an error, not nonsense
        d_share_P = _gated_back(act_PF, pair_PI, share_P)
        wants_gate_up, wants_down = ctx.needs_input_grad[4:]  # frozen experts take no gradient
        d_down = _products(dy_PD, act_PF, ends_E).to(down_EDF.dtype) if wants_down else None
        d_gate_up = _products(pair_PI, x_ND.index_select(0, token_P), ends_E).to(gate_up_EID.dtype) if wants_gate_up else None
        dx_ND = _sum_choices(_each_by_its_own(pair_PI, gate_up_EID.to(dtype), ends_E), place_NK)
        return dx_ND, None, None, d_share_P[place_NK].to(ctx.share_dtype), d_gate_up, d_down


def _sum_choices(y_PD: Tensor, place_NK: Tensor) -> Tensor:
    """The rows of each token added up: (P, D) to (N, D), in one pass."""
    return F.embedding_bag(place_NK, y_PD, mode="sum") if len(place_NK) else y_PD


def _each_by_its_own(x_PI: Tensor, weight_EIO: Tensor, ends_E: Tensor) -> Tensor:
    """Rows up to ends[0] times the first matrix, those up to ends[1] times the second, ...: (P, O)."""
    if _aligned(x_PI, weight_EIO):
        return F.grouped_mm(x_PI, weight_EIO, offs=ends_E)
    y_PO = x_PI.new_empty(len(x_PI), weight_EIO.size(2))
    for expert, rows in _groups(ends_E):
        torch.mm(x_PI[rows], weight_EIO[expert], out=y_PO[rows])
    return y_PO


def _products(left_PO: Tensor, right_PI: Tensor, ends_E: Tensor) -> Tensor:
    """left^T right over the rows of each group, zero for an empty one: (E, O, I)."""
    if _aligned(left_PO, right_PI):
        return F.grouped_mm(left_PO.mT, right_PI, offs=ends_E)
    out_EOI = left_PO.new_zeros(len(ends_E), left_PO.size(1), right_PI.size(1))
    for expert, rows in _groups(ends_E):
        torch.mm(left_PO[rows].mT, right_PI[rows], out=out_EOI[expert])
    return out_EOI


def _aligned(*parts: Tensor) -> bool:
    """Whether torch's grouped product takes these."""
    if parts[0].dtype == torch.float64:
        return False
    return all(size * part.element_size() % _ALIGNED_BYTES == 0 for part in parts for size in part.shape[-2:][part.dim() == 2 :])


def _groups(ends_E: Tensor) -> list[tuple[int, slice]]:
    """Experts that have rows, and which."""
    ends = ends_E.tolist()
    return [(expert, slice(start, end)) for expert, (start, end) in enumerate(zip([0, *ends], ends)) if end > start]


def _gated(pair_PI: Tensor, share_P: Tensor) -> Tensor:
    """share * silu(gate) * up: what the down projection reads, weighed beforehand."""
    if kernels.usable(pair_PI.dtype, pair_PI, share_P):
        act_PF = pair_PI.new_empty(len(pair_PI), pair_PI.size(1) // 2)
        kernels.call("swiglu_shared", pair_PI.dtype, pair_PI, share_P, act_PF, *act_PF.shape)
        return act_PF
    gate_PF, up_PF = pair_PI.chunk(2, dim=1)
    return F.silu(gate_PF) * up_PF * share_P[:, None].to(pair_PI.dtype)


def _gated_back(act_PF: Tensor, pair_PI: Tensor, share_P: Tensor) -> Tensor:
    """In place: the gradient of the result becomes the result, the pair its gradients. Returns the shares' gradient."""
    if kernels.usable(pair_PI.dtype, act_PF, pair_PI, share_P):
        d_share_P = torch.empty_like(share_P)
        kernels.call("swiglu_shared_backward", pair_PI.dtype, act_PF, pair_PI, share_P, d_share_P, *act_PF.shape)
        return d_share_P
    (gate_PF, up_PF), grad_PF, share_P1 = pair_PI.float().chunk(2, dim=1), act_PF.float(), share_P[:, None]
    open_PF = gate_PF.sigmoid()
    silu_PF = gate_PF * open_PF
    d_share_P = (grad_PF * silu_PF * up_PF).sum(1)
    d_gate_PF = share_P1 * grad_PF * up_PF * open_PF * (1 + gate_PF - silu_PF)
    d_pair_PI = torch.cat([d_gate_PF, share_P1 * grad_PF * silu_PF], dim=1)
    act_PF.copy_(share_P1 * silu_PF * up_PF)
    pair_PI.copy_(d_pair_PI)
    return d_share_P
