"""Mamba (Gu & Dao 2023, arXiv:2312.00752): no attention; a state of N numbers a channel that each token fades and writes to.

What a token writes (B), reads (C) and how far it fades the rest (dt) depend on the token itself: that selection is what
earlier state spaces lacked. Each block holds a short convolution, the scan and a gate in one; there is no feed-forward layer,
so two blocks hold about the weights of a Transformer's one. B rows, T tokens, D width, E = expand D channels, N states.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.recurrent import RecurrentConfig, RecurrentLM
from danlu.nn.conv import CausalConv
from danlu.nn.init import uniform
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import RMSNorm
from danlu.nn.project import project
from danlu.nn.ssm import first_values, selective_scan, step_biases
from danlu.nn.state import RecurrentState


class StateSpaceConfig(RecurrentConfig):
    """Settings that Mamba and Mamba-2 have in common."""

    sizes: ClassVar[dict[str, str]] = {
        "width": "hidden_size", "layers": "num_hidden_layers", "context": "max_position_embeddings",
    }  # fmt: skip
    ties: ClassVar[bool] = True
    required: ClassVar[tuple[str, ...]] = ("vocab_size", "hidden_size", "num_hidden_layers", "state_size")
    fixed: ClassVar[dict[str, Any]] = {"hidden_act": ("silu", "swish"), "residual_in_fp32": (True, False)}
    harmless: ClassVar[tuple[str, ...]] = (
        "rescale_prenorm_residual", "time_step_init_scheme", "time_step_scale",  # first values only
        "use_mambapy", "use_associative_scan", "fused_add_norm", "pad_vocab_size_multiple",
    )  # fmt: skip

    hidden_size: int = Field(256, gt=0)
    """Channels of the residual stream."""
    num_hidden_layers: int = Field(12, gt=0)
    """Layers."""
    expand: int = Field(2, gt=0)
    """Channels inside a layer, in widths of the stream."""
    conv_kernel: int = Field(4, ge=2)
    """Tokens that the convolution sees."""
    use_conv_bias: bool = True
    """Bias in the convolution."""
    use_bias: bool = False
    """Biases in the projections into and out of a layer."""
    layer_norm_epsilon: float = Field(1e-5, gt=0)
    """Added to the mean square."""
    time_step_min: float = Field(0.001, gt=0)
    """Shortest time step at the start."""
    time_step_max: float = Field(0.1, gt=0)
    """Longest time step at the start."""
    time_step_floor: float = Field(1e-4, gt=0)
    """Time steps at the start are raised to this."""
    initializer_range: float = 0.02
    """Standard deviation of the embedding and the head before training; other matrices follow the authors' rules."""
    max_position_embeddings: int = Field(512, gt=0)
    """Most tokens a row is made for; the memory itself has no end."""

    @classmethod
    def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
        """Twice the layers: two of these hold the weights of one with attention and a feed-forward part."""
        return super().sized(width=width, inner=inner, layers=2 * layers, heads=heads, context=context)

    @classmethod
    def from_hf(cls, found: dict[str, Any]) -> Self:
        """Read a config.json; what early conversions repeat there is dropped where it agrees."""
        width, layers = found.get("hidden_size", 0), found.get("num_hidden_layers", 0)
        inner = int(found.get("expand", 2) * width)
        said_again = {
            "d_model": width, "n_layer": layers, "d_inner": inner, "intermediate_size": inner, "ssm_cfg": {},
            "rms_norm": True, "norm_before_gate": False,
        }  # fmt: skip
        return super().from_hf({key: value for key, value in found.items() if key not in said_again or value != said_again[key]})

    @property
    def inner(self) -> int:
        """Channels inside a layer."""
        return self.expand * self.hidden_size


class StateSpaceLM(RecurrentLM):
    """Embedding, a stack of pre-norm mixers, a final norm, a head: what Mamba and Mamba-2 have in common."""

    def __init__(self, config: StateSpaceConfig, seed: int = 0):
        super().__init__(config)
        self.backbone = Trunk(config, self.mixers(config))
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.initialise(seed)

    @staticmethod
    def mixers(config: Any) -> list[nn.Module]:
        """One mixer a layer."""
        raise TypeError("a family says which mixers it has")

    def read(self, ids_BT: Tensor, sight: Sight, memories: Sequence[RecurrentState | None]) -> Tensor:
        x = self.backbone.embeddings(ids_BT)
        for layer, memory in zip(self.backbone.layers, memories, strict=True):
            x = layer(x, sight, memory)
        return self.backbone.norm_f(x)

    @property
    def embedding(self) -> nn.Parameter:
        return self.backbone.embeddings.weight

    def name_here(self, name: str) -> str | None:
        """The first published conversions call the embedding by another name."""
        return super().name_here(name.replace("backbone.embedding.", "backbone.embeddings."))

    def first(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor | None:
        return first_values(name, parameter, generator, self.config.depth)


class Block(nn.Module):
    """Pre-norm layer, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: StateSpaceConfig, mixer: nn.Module):
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mixer = mixer

    def forward(self, x: Tensor, sight: Sight, memory: RecurrentState | None = None) -> Tensor:
        return x + self.mixer(x, self.norm, sight, memory)


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: StateSpaceConfig, mixers: list[nn.Module]):
        super().__init__()
        self.embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Block(config, mixer) for mixer in mixers])
        self.norm_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)


class Mixer(nn.Module):
    """x (B, T, D), normed by the block's norm -> (B, T, D); arXiv:2312.00752, algorithm 2 and figure 3."""

    def __init__(self, config: "Mamba.Config"):
        super().__init__()
        inner, states, rank = config.inner, config.state_size, config.rank
        self.split = (rank, states, states)
        self.in_proj = Linear(config.hidden_size, 2 * inner, config.use_bias)
        self.conv1d = CausalConv(inner, config.conv_kernel, config.use_conv_bias)
        self.x_proj = Linear(inner, sum(self.split))
        self.dt_proj = Linear(rank, inner, bias=True)
        self.A_log = nn.Parameter(torch.empty(inner, states))
        self.D = nn.Parameter(torch.empty(inner))
        self.out_proj = Linear(inner, config.hidden_size, config.use_bias)

    def forward(self, x: Tensor, norm: RMSNorm, sight: Sight, memory: RecurrentState | None) -> Tensor:
        (both,) = project(x, norm, self.in_proj)
        u_BTE, gate_BTE = both.chunk(2, dim=-1)
        u_BTE = self.conv1d(u_BTE, sight.places, memory)
        step_BTR, B_BTN, C_BTN = self.x_proj(u_BTE.to(both.dtype)).float().split(self.split, dim=-1)
        dt_BTE = F.softplus(self.dt_proj(step_BTR))
        A_NE = -self.A_log.float().exp().t()
        before_BNE = u_BTE.new_zeros(len(x), *A_NE.shape) if memory is None else memory.state
        y_BTE, after_BNE = selective_scan(u_BTE, dt_BTE, A_NE, B_BTN, C_BTN, before_BNE, sight.fresh)
        if memory is not None:
            memory.state = after_BNE.detach()
        y_BTE = (y_BTE + self.D.float() * u_BTE) * F.silu(gate_BTE.float())
        return self.out_proj(y_BTE.to(both.dtype))


@MODELS.register
class Mamba(StateSpaceLM):
    """Loads and writes MambaForCausalLM folders."""

    class Config(StateSpaceConfig):
        hf_type: ClassVar[str] = "mamba"
        hf_class: ClassVar[str] = "MambaForCausalLM"
        absent: ClassVar[dict[str, Any]] = {"max_position_embeddings": 2048}

        name: Literal["mamba"] = "mamba"  # type: ignore[assignment]  # narrows
        state_size: int = Field(16, gt=0)
        """Numbers that a channel remembers."""
        time_step_rank: int | Literal["auto"] = "auto"
        """Numbers through which a token says its time steps; auto: a sixteenth of the width."""

        @property
        def rank(self) -> int:
            """Numbers of a token's time steps, resolved."""
            return math.ceil(self.hidden_size / 16) if self.time_step_rank == "auto" else self.time_step_rank

    @staticmethod
    def mixers(config: Config) -> list[nn.Module]:
        return [Mixer(config) for _ in range(config.num_hidden_layers)]

    def first(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor | None:
        """A is -1 ... -N in every channel (S4D-Real, arXiv:2312.00752, section 3.6), time steps as `step_biases`."""
        config = self.config
        if name.endswith("A_log"):
            return torch.arange(1.0, config.state_size + 1, device=parameter.device).log().expand_as(parameter)
        if name.endswith("dt_proj.weight"):
            return uniform(parameter, config.rank**-0.5, generator)
        if name.endswith("dt_proj.bias"):
            return step_biases(len(parameter), config.time_step_min, config.time_step_max, config.time_step_floor, generator)
        return super().first(name, parameter, generator)

    def new_memory(self, batch: int) -> RecurrentState:
        config, where = self.config, {"device": self.embedding.device}
        return RecurrentState(
            latest=torch.zeros(batch, config.conv_kernel - 1, config.inner, **where),
            state=torch.zeros(batch, config.state_size, config.inner, **where),
        )

    def scan_flops(self) -> float:
        return 8.0 * self.config.depth * self.config.inner * self.config.state_size

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "num_hidden_layers": 2, "state_size": 5, "time_step_rank": 3, "conv_kernel": 4,
            "max_position_embeddings": 64, "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))  # type: ignore[arg-type]
