"""Short causal convolution of every channel by itself, through SiLU: what state-space layers look at before they remember.

y[t] = silu(bias + sum_j weight[j] x[t - j]) over the J latest tokens of the same document. B rows, T tokens, E channels, J taps.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn import kernels
from danlu.nn.state import RecurrentState


def causal_conv_plain(x_BTE: Tensor, weight_JE: Tensor, bias_E: Tensor | None, place_BT: Tensor | None = None) -> Tensor:
    """The definition; tap 0 weighs the token itself. place_BT: each token's place in its document; None: in its row."""
    total = weight_JE[0] * x_BTE
    for tap, weight_E in enumerate(weight_JE[1:], start=1):
        before_BTE = F.pad(x_BTE, (0, 0, tap, 0))[:, : x_BTE.size(1)]
        if place_BT is not None:
            before_BTE = before_BTE * (place_BT >= tap)[..., None]
        total = total + weight_E * before_BTE
    return F.silu(total if bias_E is None else total + bias_E)


def causal_conv(x_BTE: Tensor, weight_JE: Tensor, bias_E: Tensor | None, place_BT: Tensor | None = None) -> Tensor:
    """What `causal_conv_plain` computes, in one visit of x."""
    given = [part for part in (x_BTE, weight_JE, bias_E) if part is not None]
    if any(part.dtype != torch.float32 for part in given) or not kernels.usable(torch.float32, *given):
        return causal_conv_plain(x_BTE, weight_JE, bias_E, place_BT)
    y_BTE: Tensor = _CausalConv.apply(x_BTE, weight_JE, bias_E, place_BT)
    return y_BTE


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTE: Tensor, weight_JE: Tensor, bias_E: Tensor | None, place_BT: Tensor | None) -> Tensor:
        x_BTE, weight_JE = x_BTE.contiguous(), weight_JE.contiguous()
        y_BTE = torch.empty_like(x_BTE)
        kernels.call("causal_conv", torch.float32, x_BTE, weight_JE, bias_E, place_BT, y_BTE, *x_BTE.shape, len(weight_JE))
        ctx.save_for_backward(x_BTE, weight_JE, bias_E, place_BT)
        return y_BTE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x_BTE, weight_JE, bias_E, place_BT = ctx.saved_tensors
        rows, tokens, width = x_BTE.shape
        dx_BTE = torch.zeros_like(x_BTE)
        d_weight_BJE, d_bias_BE = x_BTE.new_zeros(rows, *weight_JE.shape), x_BTE.new_zeros(rows, width)
        kernels.call(
            "causal_conv_backward", torch.float32, grads[0].contiguous(), x_BTE, weight_JE, bias_E, place_BT,
            dx_BTE, d_weight_BJE, d_bias_BE, rows, tokens, width, len(weight_JE),
        )  # fmt: skip
        return dx_BTE, d_weight_BJE.sum(0), None if bias_E is None else d_bias_BE.sum(0), None


class CausalConv(nn.Module):
    """x (B, T, E) -> (B, T, E) in float32; weight (E, 1, J) as a convolution stores it: its last tap is the token itself."""

    def __init__(self, width: int, taps: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, 1, taps))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None

    def forward(self, x_BTE: Tensor, place_BT: Tensor | None, memory: RecurrentState | None = None) -> Tensor:
        """memory: its `latest` (B, J - 1, E) are the tokens before x, and become those before what comes next."""
        x_BTE, known = x_BTE.float(), 0
        if memory is not None:
            known = memory.latest.size(1)
            x_BTE = torch.cat([memory.latest.float(), x_BTE], 1)
            memory.latest = x_BTE[:, x_BTE.size(1) - known :].detach().to(memory.latest.dtype)
        weight_JE = self.weight.float().squeeze(1).flip(1).t()
        y_BTE = causal_conv(x_BTE, weight_JE, None if self.bias is None else self.bias.float(), place_BT)
        return y_BTE[:, known:]
