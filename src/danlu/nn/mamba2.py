"""The mixer of Mamba-2 (Dao & Gu 2024, arXiv:2405.21060, section 7), as Mamba-2 and the hybrids built of it share it.

One product gives the gate, what is written, B, C and the time steps all at once; the decay is one number a head; a norm stands
behind the gate. B rows, T tokens, D width, H heads, P channels of a head, G groups of heads that share B and C, N states.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn import ssm
from danlu.nn.conv import CausalConv
from danlu.nn.linear import Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import RMSNorm, rms_norm, rms_norm_plain
from danlu.nn.project import project
from danlu.nn.ssm import dual_scan, step_biases
from danlu.nn.state import RecurrentState

_CHUNK = 64
"""Tokens at once from which scores within a chunk cost more than states between chunks."""


@dataclass(frozen=True)
class MixerSizes:
    """Sizes and constants of a mixer."""

    width: int
    """Channels of the stream."""
    heads: int
    """Heads, each with a decay of its own."""
    head_width: int
    """Channels of a head."""
    states: int
    """Numbers that a channel remembers."""
    groups: int
    """Groups of heads that share what is written and read, a divisor of the heads."""
    taps: int
    """Tokens that the convolution sees."""
    conv_bias: bool
    """Bias in the convolution."""
    bias: bool
    """Biases in the projections in and out."""
    eps: float
    """Added to the mean square of the norm behind the gate."""
    chunk: int
    """Most tokens that the scan takes at once; changes rounding alone."""
    step_limits: tuple[float, float] = (0.0, math.inf)
    """Time steps are kept between these."""

    @property
    def inner(self) -> int:
        """Channels of all heads."""
        return self.heads * self.head_width

    @property
    def convolved(self) -> int:
        """Channels that pass the convolution: what is written, B and C."""
        return self.inner + 2 * self.groups * self.states

    def scan_flops(self) -> float:
        """Arithmetic of one token's scan: scores and sums within a chunk, and the state written and read."""
        within = min(self.chunk, _CHUNK) * (self.groups * self.states + self.inner)
        return 2.0 * within + 4.0 * self.inner * self.states


def first_values(
    name: str, parameter: Tensor, generator: torch.Generator, depth: int, steps: tuple[float, float, float]
) -> Tensor | None:
    """As the authors' code begins: A even between -1 and -16, time steps as `step_biases`, the rest as in Mamba."""
    if name.endswith("A_log"):
        return (1 + 15 * torch.rand(parameter.shape, generator=generator, device=generator.device)).log()
    if name.endswith("dt_bias"):
        return step_biases(len(parameter), *steps, generator)
    return ssm.first_values(name, parameter, generator, depth)


class GatedRMSNorm(nn.Module):
    """x (..., E) times silu(gate), normalised in G groups of channels -> (..., E)."""

    def __init__(self, width: int, groups: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.groups, self.eps = groups, eps

    def forward(self, x: Tensor, gate: Tensor, dtype: torch.dtype) -> Tensor:
        x = x * F.silu(gate.float())
        if self.groups == 1:
            return rms_norm(x, self.weight, self.eps, dtype)
        parts = (part.unflatten(-1, (self.groups, -1)) for part in (x, self.weight))
        return rms_norm_plain(*parts, self.eps, dtype).flatten(-2)


class Mamba2Mixer(nn.Module):
    """x (B, T, D), normed by the block's norm -> (B, T, D); arXiv:2405.21060, figure 6 (right)."""

    def __init__(self, sizes: MixerSizes):
        super().__init__()
        self.sizes = sizes
        self.in_proj = Linear(sizes.width, sizes.inner + sizes.convolved + sizes.heads, sizes.bias)
        self.conv1d = CausalConv(sizes.convolved, sizes.taps, sizes.conv_bias)
        self.dt_bias = nn.Parameter(torch.empty(sizes.heads))
        self.A_log = nn.Parameter(torch.empty(sizes.heads))
        self.D = nn.Parameter(torch.empty(sizes.heads))
        self.norm = GatedRMSNorm(sizes.inner, sizes.groups, sizes.eps)
        self.out_proj = Linear(sizes.inner, sizes.width, sizes.bias)

    def forward(self, x: Tensor, norm: RMSNorm, sight: Sight, memory: RecurrentState | None = None) -> Tensor:
        sizes, groups = self.sizes, (self.sizes.groups, self.sizes.states)
        (projected,) = project(x, norm, self.in_proj)
        gate, mixed, step_BTH = projected.split([sizes.inner, sizes.convolved, sizes.heads], dim=-1)
        shared = sizes.groups * sizes.states
        u, B, C = self.conv1d(mixed, sight.places, memory).split([sizes.inner, shared, shared], dim=-1)
        u_BTHP = u.unflatten(-1, (sizes.heads, -1))
        dt_BTH = F.softplus(step_BTH.float() + self.dt_bias.float()).clamp(*sizes.step_limits)
        before = u.new_zeros(len(u), sizes.heads, sizes.head_width, sizes.states) if memory is None else memory.state
        y_BTHP, after = dual_scan(
            u_BTHP, dt_BTH, -self.A_log.float().exp(), B.unflatten(-1, groups), C.unflatten(-1, groups), before,
            None if sight.mixed_rows is None else sight.documents_BT, min(sizes.chunk, _CHUNK),
        )  # fmt: skip
        if memory is not None:
            memory.state = after
        y = (y_BTHP + self.D.float()[:, None] * u_BTHP).flatten(2)
        return self.out_proj(self.norm(y, gate, projected.dtype))

    def new_memory(self, batch: int, device: torch.device) -> RecurrentState:
        """What is remembered before the first token."""
        sizes = self.sizes
        return RecurrentState(
            latest=torch.zeros(batch, sizes.taps - 1, sizes.convolved, device=device),
            state=torch.zeros(batch, sizes.heads, sizes.head_width, sizes.states, device=device),
        )
