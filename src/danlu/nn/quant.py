"""Weights in 8 or 4 bits: round to nearest with a scale for each group of inputs, and back.

value = scale * (code - zero). Symmetric: zero is 0, codes are signed. Asymmetric: codes run from 0 to 15 and the zero is one
of them, so that zero stays exact. Scales are bfloat16; codes are chosen after the scale was rounded, so rounding it loses
nothing. `search` looks for the scale that loses least in squares: the largest weight of a group may be worth clipping.

Leaves out what looks at data or at other weights (GPTQ, AWQ: danlu compress), except for weighing inputs by `importance`.
O outputs, I inputs, G groups of inputs, g inputs of a group (the last may be shorter).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.nn import kernels

_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of the largest weight that the search takes as the end of the range."""
_PART = 1024  # outputs searched at once: the plain search holds a dozen copies
_TINY = 1e-30  # the scale of a group of zeros: any would do, and dividing by it must


@dataclass(frozen=True)
class Quantised:
    """A matrix (O, I) in few bits."""

    codes: Tensor
    """int8 (O, I): -127 to 127 in 8 bits, -8 to 7 in 4, 0 to 15 in 4 with zeros."""
    scales: Tensor
    """bfloat16 (O, G)."""
    zeros: Tensor | None
    """int8 (O, G), the code that means 0; None: symmetric."""
    bits: int
    group: int
    """Inputs that share a scale; I where a whole row does."""

    @property
    def bits_per_weight(self) -> float:
        """Bits of codes, scales and zeros together, for one weight."""
        side = 16 * self.scales.numel() + (0 if self.zeros is None else self.bits * self.zeros.numel())
        return self.bits + side / self.codes.numel()


def dequantised(small: Quantised) -> Tensor:
    """The float32 matrix that the codes mean, (O, I)."""
    wide = _grouped(small.codes.float(), small.group)
    if small.zeros is not None:
        wide = wide - small.zeros.float()[..., None]
    return (wide * small.scales.float()[..., None]).flatten(1)[:, : small.codes.size(1)]


def quantise_int8(weight_OI: Tensor, group: int | None = None) -> Quantised:
    """Symmetric, 8 bits; one scale for each output, or for each `group` of its inputs.

    >>> small = quantise_int8(torch.tensor([[1.0, -2.54, 0.005]]))
    >>> small.codes.tolist(), round(small.scales.item(), 4)
    ([[50, -127, 0]], 0.02)
    """
    group = group or weight_OI.size(1)
    wide_OGg = _grouped(weight_OI.float(), group)
    scale_OG = (wide_OGg.abs().amax(-1) / 127).clamp(min=_TINY).bfloat16()
    code_OGg = _rounded(wide_OGg, scale_OG.float(), -127, 127)
    return Quantised(_joined(code_OGg, weight_OI), scale_OG, None, 8, group)


def quantise_int4(weight_OI: Tensor, group: int = 64, symmetric: bool = True, search: bool = True,
                  importance_I: Tensor | None = None) -> Quantised:  # fmt: skip
    """4 bits, one scale (and zero, unless symmetric) for each `group` of an output's inputs.

    importance_I: what a squared error of each input weighs in the search, for example the mean square of what comes in.

    >>> small = quantise_int4(torch.tensor([[0.7, -0.8, 0.1, 0.0]]), group=4)
    >>> small.codes.tolist(), dequantised(small)
    ([[7, -8, 1, 0]], tensor([[ 0.7007, -0.8008,  0.1001,  0.0000]]))
    """
    wide_OI = weight_OI.detach().float().contiguous()
    share_I = torch.ones(weight_OI.size(1), device=wide_OI.device) if importance_I is None else importance_I.float().contiguous()
    if kernels.usable(torch.float32, wide_OI, share_I):
        codes, scales, zeros = _search(wide_OI, group, symmetric, search, share_I)
    else:
        parts = [_search_plain(part, group, symmetric, search, share_I) for part in wide_OI.split(_PART)]
        codes, scales, zeros = (torch.cat(kind) for kind in zip(*parts, strict=True))
    return Quantised(codes, scales, None if symmetric else zeros, 4, group)


def _search(weight_OI: Tensor, group: int, symmetric: bool, search: bool, share_I: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `_search_plain` computes, compiled."""
    outputs, inputs = weight_OI.shape
    groups = -(-inputs // group)
    codes_OI, zeros_OG = torch.empty(outputs, inputs, dtype=torch.int8), torch.empty(outputs, groups, dtype=torch.int8)
    scales_OG, clips = torch.empty(outputs, groups, dtype=torch.bfloat16), torch.tensor(_CLIPS if search else _CLIPS[:1])
    sizes = (outputs, inputs, group, int(symmetric), len(clips), int(search))
    kernels.call("search_int4", torch.float32, weight_OI, share_I, clips, codes_OI, scales_OG, zeros_OG, *sizes)
    return codes_OI, scales_OG, zeros_OG


def _search_plain(weight_OI: Tensor, group: int, symmetric: bool, search: bool, share_I: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The definition of the search: codes, scales and zeros of the trial that loses least in each group."""
    wide_OGg, share_Gg = _grouped(weight_OI, group), _grouped(share_I[None], group)[0]
    best: tuple[Tensor, ...] | None = None
    for clip in _CLIPS if search else _CLIPS[:1]:
        for scale_OG, zero_OG in _symmetric(wide_OGg, clip) if symmetric else [_asymmetric(wide_OGg, clip)]:
            if search:
                scale_OG = _refitted(wide_OGg, share_Gg, scale_OG, zero_OG, symmetric)
            scale_OG = torch.where(scale_OG.abs() < _TINY, _TINY, scale_OG).bfloat16().float()
            code_OGg = _code(wide_OGg, scale_OG, zero_OG, symmetric)
            lost_OG = ((scale_OG[..., None] * (code_OGg - zero_OG[..., None]) - wide_OGg).square() * share_Gg).sum(-1)
            new = (lost_OG, scale_OG, zero_OG, code_OGg)
            if best is None:
                best = new
                continue
            better_OG = lost_OG < best[0]
            best = tuple(torch.where(better_OG if one.dim() == 2 else better_OG[..., None], one, old)
                         for one, old in zip(new, best, strict=True))  # fmt: skip
    assert best is not None
    _, scale_OG, zero_OG, code_OGg = best
    return _joined(code_OGg, weight_OI), scale_OG.bfloat16(), zero_OG.to(torch.int8)


def quantise_rows(x_MI: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Activations in 8 bits as the native kernels take them: codes int8 (M, I), scales float32 (M, G), nothing clipped."""
    wide_MGg = _grouped(x_MI.float(), group)
    most_MG = wide_MGg.abs().amax(-1)
    inverse_MG = torch.where(most_MG > 0, 127 / most_MG, 0.0)
    code_MGg = (wide_MGg * inverse_MG[..., None]).round()
    return _joined(code_MGg, x_MI), most_MG / 127


def pack_nibbles(codes_OI: Tensor) -> Tensor:
    """Codes of 4 bits, two a byte, the earlier input in the low half, signed ones as two's complement: uint8 (O, ceil(I / 2))."""
    even_OI = F.pad(codes_OI, (0, codes_OI.size(1) % 2)).to(torch.uint8) & 15
    return even_OI[:, ::2] | (even_OI[:, 1::2] << 4)


def unpack_nibbles(packed: Tensor, inputs: int, signed: bool) -> Tensor:
    """What `pack_nibbles` packed, int8 (O, inputs).

    >>> unpack_nibbles(pack_nibbles(torch.tensor([[-8, 7, 3]], dtype=torch.int8)), 3, signed=True).tolist()
    [[-8, 7, 3]]
    """
    codes = torch.stack([packed & 15, packed >> 4], -1).flatten(1)[:, :inputs].to(torch.int8)
    return torch.where(codes > 7, codes - 16, codes) if signed else codes


def _grouped(x_OI: Tensor, group: int) -> Tensor:
    """(O, I) to (O, G, g), zeros behind the end."""
    return F.pad(x_OI, (0, -x_OI.size(1) % group)).unflatten(1, (-1, group))


def _joined(code_OGg: Tensor, like_OI: Tensor) -> Tensor:
    return code_OGg.flatten(1)[:, : like_OI.size(1)].to(torch.int8).contiguous()


def _rounded(wide_OGg: Tensor, scale_OG: Tensor, low: int, high: int) -> Tensor:
    return (wide_OGg / scale_OG[..., None]).round().clamp(low, high)


def _code(wide_OGg: Tensor, scale_OG: Tensor, zero_OG: Tensor, symmetric: bool) -> Tensor:
    if symmetric:
        return _rounded(wide_OGg, scale_OG, -8, 7)
    return ((wide_OGg / scale_OG[..., None]).round() + zero_OG[..., None]).clamp(0, 15)


def _symmetric(wide_OGg: Tensor, clip: float) -> list[tuple[Tensor, Tensor]]:
    """Two ways to lay -8 ... 7 over a group: both ends at 7, or the end that reaches further at -8, with a scale of its sign."""
    most_OG = wide_OGg.abs().amax(-1)
    furthest_OG = wide_OGg.gather(-1, wide_OGg.abs().argmax(-1, keepdim=True))[..., 0]
    zero_OG = torch.zeros_like(most_OG)
    return [(clip * furthest_OG / -8, zero_OG), (clip * most_OG / 7, zero_OG)]


def _asymmetric(wide_OGg: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    low_OG, high_OG = clip * wide_OGg.amin(-1).clamp(max=0), clip * wide_OGg.amax(-1).clamp(min=0)
    scale_OG = ((high_OG - low_OG) / 15).clamp(min=_TINY)
    return scale_OG, (-low_OG / scale_OG).round().clamp(0, 15)


def _refitted(wide_OGg: Tensor, share_Gg: Tensor, scale_OG: Tensor, zero_OG: Tensor, symmetric: bool) -> Tensor:
    """The scale with least squared error for the codes that `scale_OG` gives."""
    safe_OG = torch.where(scale_OG.abs() < _TINY, _TINY, scale_OG)
    code_OGg = _code(wide_OGg, safe_OG, zero_OG, symmetric) - zero_OG[..., None]
    across, along = (wide_OGg * code_OGg * share_Gg).sum(-1), (code_OGg.square() * share_Gg).sum(-1)
    return torch.where(along > 0, across / along.clamp(min=_TINY), scale_OG)
