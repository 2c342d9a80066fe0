"""A frozen matrix beside which a small product learns: y = W x + b + scale B (A x) (LoRA, Hu et al. 2021, arXiv:2106.09685).

The fast passes keep the input and A x for the gradient and nothing of W, whose gradient nobody needs: a layer that holds W in
few bits (small_frozen.py) makes it anew on the way back. What the layers that read one normed stream share is computed once.
N tokens, I inputs, O outputs, R channels, D width, F inner channels.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn import kernels
from danlu.nn.norm import RMSNorm, fusible, normalise, normalise_back


class LowRank(nn.Module):
    """What one layer gains. `scale` multiplies B (A x); inputs are dropped with probability `dropout` in training."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float, dropout: float = 0.0):
        super().__init__()
        self.scale, self.dropout = scale, dropout
        self.lora_A = nn.Parameter(torch.empty(rank, inputs))
        self.lora_B = nn.Parameter(torch.empty(outputs, rank))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The definition: a layer's input and its product to what it answers."""
        x = F.dropout(x, self.dropout, self.training)
        return y + self.scale * F.linear(F.linear(x, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype))

    def change(self) -> Tensor:
        """What it adds to the matrix, (O, I)."""
        return self.scale * (self.lora_B @ self.lora_A)

    @property
    def dropping(self) -> bool:
        """Whether the passes below cannot serve it now."""
        return self.training and self.dropout > 0


class Frozen(Protocol):
    """A layer as the passes below see it: a matrix (O, I) that does not learn, and perhaps a LowRank beside it."""

    bias: Tensor | None
    added: Any

    @property
    def matrix(self) -> Tensor: ...

    @property
    def learns(self) -> bool: ...


def light(*layers: Frozen, biases: bool = False) -> bool:
    """Whether the passes below can serve these: frozen matrices, each alone or with a LowRank, biases where they are allowed."""
    return not torch.compiler.is_compiling() and all(
        not getattr(layer, "learns", True)
        and (layer.added is None or (type(layer.added) is LowRank and not layer.added.dropping))
        and (layer.bias is None or (biases and not layer.bias.requires_grad))
        for layer in layers
    )  # fmt: skip


def product(x: Tensor, layer: Frozen) -> Tensor:
    """What the layer answers to x (..., I), (..., O); it must be `light`, a bias allowed."""
    y: Tensor = _Product.apply(x, layer, *_halves([layer]))
    return y


def frozen_product(x: Tensor, layer: Frozen) -> Tensor:
    """What its matrix and bias alone answer, whatever is laid on it."""
    y: Tensor = _Product.apply(x, layer, None, None)
    return y


def project(x: Tensor, norm: RMSNorm, dtype: torch.dtype, layers: Sequence[Frozen]) -> tuple[Tensor, ...]:
    """Each layer of the normed x, as nn/project.py defines it; the layers must be `light` and the norm `fusible`."""
    products: tuple[Tensor, ...] = _Project.apply(x, norm.gain, norm.eps, dtype, layers, *_halves(layers))
    return products


def swiglu(x: Tensor, norm: RMSNorm, dtype: torch.dtype, layers: Sequence[Frozen]) -> Tensor:
    """The gated layer of gate, up and down, as nn/mlp.py defines it; the layers must be `light` and the norm `fusible`."""
    y: Tensor = _SwiGLU.apply(x, norm.gain, norm.eps, dtype, layers, *_halves(layers))
    return y


def servable(x: Tensor, norm: RMSNorm, dtype: torch.dtype, layers: Sequence[Frozen]) -> bool:
    """Whether `project` and `swiglu` can serve these."""
    return light(*layers) and fusible(x, norm.gain, dtype)


def _halves(layers: Sequence[Frozen]) -> list[Tensor | None]:
    """A and B of every layer in turn; None for those that have none."""
    parts = [layer.added for layer in layers]
    return [half for part in parts for half in ((None, None) if part is None else (part.lora_A, part.lora_B))]


def _pairs(halves: Sequence[Tensor | None]) -> list[tuple[Tensor, Tensor] | None]:
    return [None if a is None or b is None else (a, b) for a, b in zip(halves[::2], halves[1::2], strict=True)]


def _scale(layer: Frozen) -> float:
    return float(layer.added.scale)


def _apart(x_NI: Tensor, pairs: Sequence[tuple[Tensor, Tensor] | None]) -> list[Tensor | None]:
    """A x of every layer that has an A, (N, R), by one product for all."""
    stacked = [pair[0].to(x_NI.dtype) for pair in pairs if pair]
    if not stacked:
        return [None] * len(pairs)
    lows = iter((x_NI @ torch.cat(stacked).t()).split([len(a) for a in stacked], dim=1))
    return [next(lows) if pair else None for pair in pairs]


def _forward(x_NI: Tensor, layer: Frozen, pair: tuple[Tensor, Tensor] | None, low_NR: Tensor | None) -> Tensor:
    dtype = x_NI.dtype
    y_NO = F.linear(x_NI, layer.matrix.to(dtype), None if layer.bias is None else layer.bias.to(dtype))
    if pair and low_NR is not None:
        y_NO.addmm_(low_NR, pair[1].to(dtype).t(), alpha=_scale(layer))
    return y_NO


def _learn(dy_NO: Tensor, layer: Frozen, pair: tuple[Tensor, Tensor] | None, low_NR: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradients of A x, and of B."""
    if not pair or low_NR is None:
        return None, None
    scale, b_OR = _scale(layer), pair[1]
    return (dy_NO @ b_OR.to(dy_NO.dtype)).mul_(scale), (dy_NO.t() @ low_NR).mul_(scale).to(b_OR.dtype)


def _returned(dys: Sequence[Tensor], layers: Sequence[Frozen]) -> Tensor:
    """What the matrices hand back of the gradients of their products, (N, I)."""
    (first, dy_NO), *others = [(layer, dy_NO) for layer, dy_NO in zip(layers, dys, strict=True)]
    dx_NI = dy_NO @ first.matrix.to(dy_NO.dtype)
    for layer, dy_NO in others:
        dx_NI.addmm_(dy_NO, layer.matrix.to(dy_NO.dtype))
    return dx_NI


def _join(x_NI: Tensor, d_lows: Sequence[Tensor | None], pairs: Sequence[tuple[Tensor, Tensor] | None],
          dx_NI: Tensor | None) -> list[Tensor | None]:  # fmt: skip
    """The gradient of every A, by one product for all; their share of dx is added to it."""
    there = [(d_low, pair[0]) for d_low, pair in zip(d_lows, pairs, strict=True) if pair and d_low is not None]
    if not there:
        return [None] * len(pairs)
    d_low_NR = torch.cat([d_low for d_low, _ in there], dim=1)
    if dx_NI is not None:
        dx_NI.addmm_(d_low_NR, torch.cat([a.to(d_low_NR.dtype) for _, a in there]))
    d_as = iter((d_low_NR.t() @ x_NI).split([len(a) for _, a in there]))
    return [next(d_as).to(pair[0].dtype) if pair else None for pair in pairs]


def _interleaved(d_as: Sequence[Tensor | None], d_bs: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [half for pair in zip(d_as, d_bs, strict=True) for half in pair]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Frozen, *halves: Tensor | None) -> Tensor:
        pairs, x_NI = _pairs(halves), x.reshape(-1, x.size(-1))
        lows = _apart(x_NI, pairs)
        ctx.save_for_backward(x if pairs[0] else None, *lows, *halves)
        ctx.layer, ctx.shape = layer, x.shape
        return _forward(x_NI, layer, pairs[0], lows[0]).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, low, *halves = ctx.saved_tensors
        pairs, dy_NO = _pairs(halves), grads[0].reshape(-1, grads[0].size(-1))
        dx_NI = _returned([dy_NO], [ctx.layer]) if ctx.needs_input_grad[0] else None
        d_low, d_b = _learn(dy_NO, ctx.layer, pairs[0], low)
        (d_a,) = _join(x.reshape(-1, x.size(-1)), [d_low], pairs, dx_NI) if x is not None else [None]
        return None if dx_NI is None else dx_NI.view(ctx.shape), None, d_a, d_b


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm_D: Tensor, eps: float, dtype: torch.dtype, layers: Sequence[Frozen],
                *halves: Tensor | None) -> tuple[Tensor, ...]:  # fmt: skip
        x, pairs = x.contiguous(), _pairs(halves)
        normed, rstd = normalise(x, norm_D, eps, dtype)
        normed_ND = normed.view(-1, x.size(-1))
        lows = _apart(normed_ND, pairs)
        ctx.save_for_backward(x, norm_D, rstd, *lows, *halves)
        ctx.eps, ctx.layers = eps, layers
        products = zip(layers, pairs, lows, strict=True)
        return tuple(_forward(normed_ND, *one).view(*x.shape[:-1], -1) for one in products)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_D, rstd, *rest = ctx.saved_tensors
        lows, pairs = rest[: len(ctx.layers)], _pairs(rest[len(ctx.layers) :])
        grads_NO = [grad.reshape(rstd.numel(), -1) for grad in grads]
        normed_ND = normalise(x, norm_D, ctx.eps, grads_NO[0].dtype)[0].view(rstd.numel(), -1)
        both = [_learn(*one) for one in zip(grads_NO, ctx.layers, pairs, lows, strict=True)]
        dx_ND = _returned(grads_NO, ctx.layers) if any(ctx.needs_input_grad[:2]) else None
        d_as = _join(normed_ND, [d_low for d_low, _ in both], pairs, dx_ND)
        dx, d_norm = (None, None) if dx_ND is None else normalise_back(dx_ND, x, norm_D, rstd)
        return dx, d_norm, None, None, None, *_interleaved(d_as, [d_b for _, d_b in both])


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm_D: Tensor, eps: float, dtype: torch.dtype, layers: Sequence[Frozen],
                *halves: Tensor | None) -> Tensor:  # fmt: skip
        x, pairs = x.contiguous(), _pairs(halves)
        normed, rstd = normalise(x, norm_D, eps, dtype)
        normed_ND = normed.view(-1, x.size(-1))
        lows = _apart(normed_ND, pairs[:2])
        gate_NF, up_NF = (_forward(normed_ND, *one) for one in zip(layers[:2], pairs[:2], lows, strict=True))
        act_NF = torch.empty_like(gate_NF)
        kernels.call("swiglu", dtype, gate_NF, up_NF, act_NF, *gate_NF.shape)
        lows += _apart(act_NF, pairs[2:])
        ctx.save_for_backward(x, norm_D, rstd, gate_NF, up_NF, *lows, *halves)
        ctx.eps, ctx.layers = eps, layers
        return _forward(act_NF, layers[2], pairs[2], lows[2]).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_D, rstd, gate_NF, up_NF, *rest = ctx.saved_tensors
        lows, pairs, (*inner, down) = rest[:3], _pairs(rest[3:]), ctx.layers
        dy_ND = grads[0].reshape(len(gate_NF), -1)
        d_low, d_down_b = _learn(dy_ND, down, pairs[2], lows[2])
        act_NF = _returned([dy_ND], [down])  # its gradient first; the kernel leaves its value there
        if pairs[2] and d_low is not None:
            act_NF.addmm_(d_low, pairs[2][0].to(d_low.dtype))
        torch.autograd.graph.increment_version((gate_NF, up_NF))  # a second backward pass through here is an error, not nonsense
        kernels.call("swiglu_backward", dy_ND.dtype, act_NF, gate_NF, up_NF, *gate_NF.shape)
        (d_down_a,) = _join(act_NF, [d_low], pairs[2:], None)
        normed_ND = normalise(x, norm_D, ctx.eps, dy_ND.dtype)[0].view(dy_ND.shape)
        both = [_learn(*one) for one in zip((gate_NF, up_NF), inner, pairs[:2], lows[:2], strict=True)]
        dx_ND = _returned((gate_NF, up_NF), inner) if any(ctx.needs_input_grad[:2]) else None
        d_as = _join(normed_ND, [low for low, _ in both], pairs[:2], dx_ND)
        dx, d_norm = (None, None) if dx_ND is None else normalise_back(dx_ND, x, norm_D, rstd)
        return dx, d_norm, None, None, None, *_interleaved([*d_as, d_down_a], [*(d_b for _, d_b in both), d_down_b])
