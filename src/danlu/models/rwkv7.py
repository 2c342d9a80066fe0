"""RWKV-7 "Goose" (Peng et al. 2025, arXiv:2503.14456): each head remembers a matrix from keys to values, and corrects it.

Against RWKV-4: a matrix a head in place of one mean a channel; before a token stores its value, what the matrix held under its
key is taken out in part (the delta rule, at a rate of its own for every channel); decays depend on the token; later layers blend
in the first layer's values; channel mixing has no gate. Small matrices of low rank make decays, rates, blends and the gate.
transformers does not compute it: folders follow the layout of flash-linear-attention (`model_type` rwkv7), which others read too.
B rows, T tokens, D width, H heads, K channels of a head.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.recurrent import RecurrentConfig, RecurrentLM
from danlu.nn.init import orthogonal, uniform
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import LayerNorm
from danlu.nn.state import RecurrentState
from danlu.nn.wkv import delta_scan, previous

_FASTEST = 0.6065306597126334
"""e^-0.5: the logarithm of a decay lies between this, negative, and zero."""
_BLENDS = {"x_r": 0.2, "x_w": 0.9, "x_k": 0.7, "x_v": 0.7, "x_a": 0.9, "x_g": 0.2}
"""What reads a blend of a token and the one before, and how fast its share grows over the channels at the start."""


class LowRank(nn.Module):
    """x (B, T, D) -> (B, T, D) through a few channels; on disk the two matrices are `lora.0` and `lora.2`."""

    def __init__(self, width: int, rank: int, bias: bool):
        super().__init__()
        self.lora = nn.ModuleDict({"0": Linear(width, rank), "2": Linear(rank, width, bias)})

    def forward(self, x: Tensor, activation: Any = None) -> Tensor:
        few = self.lora["0"](x)
        return self.lora["2"](few if activation is None else activation(few))


class HeadNorm(nn.Module):
    """x (B, T, H K) normalised head by head, in float32."""

    def __init__(self, heads: int, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.heads, self.eps = heads, eps

    def forward(self, x: Tensor) -> Tensor:
        normed = F.group_norm(x.flatten(0, 1), self.heads, self.weight.float(), self.bias.float(), self.eps)
        return normed.view(x.shape)


class TimeMixing(nn.Module):
    """x (B, T, D), normed -> (B, T, D), and the values that later layers blend in; arXiv:2503.14456, eq. 3-22."""

    def __init__(self, config: "RWKV7.Config", first: bool):
        super().__init__()
        width, heads = config.hidden_size, config.heads
        self.heads = heads
        for name in _BLENDS:
            setattr(self, name, nn.Parameter(torch.empty(1, 1, width)))
        self.k_k = nn.Parameter(torch.empty(width))
        self.k_a = nn.Parameter(torch.empty(width))
        self.r_k = nn.Parameter(torch.empty(heads, config.head_dim))
        self.r_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.o_proj = Linear(width, width)
        ranks = config.ranks
        self.w_lora = LowRank(width, ranks["decay"], bias=True)
        if not first:
            self.v_lora = LowRank(width, ranks["v"], bias=True)
        self.a_lora = LowRank(width, ranks["a"], bias=True)
        self.g_lora = LowRank(width, ranks["gate"], bias=False)
        self.g_norm = HeadNorm(heads, width, config.head_dim * config.norm_eps)

    def forward(self, x: Tensor, v_first: Tensor | None, sight: Sight, memory: RecurrentState | None) -> tuple[Tensor, Tensor]:
        change = previous(x, sight.fresh, None if memory is None else memory.time_before) - x
        r_in, w_in, k_in, v_in, a_in, g_in = (x + change * getattr(self, name).to(x.dtype) for name in _BLENDS)
        r, k, v, gate = self.r_proj(r_in), self.k_proj(k_in), self.v_proj(v_in), self.g_lora(g_in, torch.sigmoid)
        if v_first is None:
            v_first = v
        else:
            v = torch.lerp(v, v_first, self.v_lora(v_in).sigmoid())
        rate = self.a_lora(a_in).sigmoid()
        decay = (-_FASTEST * self.w_lora(w_in, torch.tanh).float().sigmoid()).exp()
        removed = F.normalize(self._by_head(k.float() * self.k_k.float()), dim=-1)
        r, decay, k, v_own, rate = (
            self._by_head(part.float()) for part in (r, decay, k * (1 + (rate - 1) * self.k_a.to(k.dtype)), v, rate)
        )
        before = r.new_zeros(len(x), *r.shape[2:], v_own.size(-1)) if memory is None else memory.matrix
        y, after = delta_scan(r, decay, k, v_own, -removed, removed * rate, before, sight.fresh)
        if memory is not None:
            memory.time_before, memory.matrix = x[:, -1].detach().float(), after.detach()
        bonus = (r * k * self.r_k.float()).sum(-1, keepdim=True) * v_own
        y = self.g_norm(y.flatten(2)) + bonus.flatten(2)
        return self.o_proj(y.to(x.dtype) * gate), v_first

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class ChannelMixing(nn.Module):
    """x (B, T, D), normed -> (B, T, D) through F inner channels; arXiv:2503.14456, eq. 23."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.x_k = nn.Parameter(torch.empty(width))
        self.key = Linear(width, inner)
        self.value = Linear(inner, width)

    def forward(self, x: Tensor, sight: Sight, memory: RecurrentState | None) -> Tensor:
        change = previous(x, sight.fresh, None if memory is None else memory.channel_before) - x
        if memory is not None:
            memory.channel_before = x[:, -1].detach().float()
        return self.value(F.relu(self.key(x + change * self.x_k.to(x.dtype))).square())


class Block(nn.Module):
    """Pre-norm layer, (B, T, D) -> (B, T, D); the first also norms what it is given, and its values go on to the others."""

    def __init__(self, config: "RWKV7.Config", first: bool):
        super().__init__()
        width, eps = config.hidden_size, config.norm_eps
        if first:
            self.pre_norm = LayerNorm(width, eps)
        self.attn_norm = LayerNorm(width, eps)
        self.attn = TimeMixing(config, first)
        self.ffn_norm = LayerNorm(width, eps)
        self.ffn = ChannelMixing(width, config.inner)

    def forward(
        self, x: Tensor, v_first: Tensor | None, sight: Sight, memory: RecurrentState | None = None
    ) -> tuple[Tensor, Tensor]:
        if hasattr(self, "pre_norm"):
            x = self.pre_norm(x).float()
        mixed, v_first = self.attn(self.attn_norm(x), v_first, sight, memory)
        x = x + mixed
        return x + self.ffn(self.ffn_norm(x), sight, memory), v_first


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: "RWKV7.Config"):
        super().__init__()
        self.embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Block(config, first=index == 0) for index in range(config.num_hidden_layers)])
        self.norm = LayerNorm(config.hidden_size, config.norm_eps)


@MODELS.register
class RWKV7(RecurrentLM):
    """Loads and writes RWKV7ForCausalLM folders as flash-linear-attention lays them out."""

    class Config(RecurrentConfig):
        hf_type: ClassVar[str] = "rwkv7"
        hf_class: ClassVar[str] = "RWKV7ForCausalLM"
        sizes: ClassVar[dict[str, str]] = {
            "width": "hidden_size", "inner": "intermediate_size", "layers": "num_hidden_layers",
            "context": "max_position_embeddings",
        }  # fmt: skip
        required: ClassVar[tuple[str, ...]] = (
            "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "head_dim", "decay_low_rank_dim",
            "gate_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim",
        )  # fmt: skip
        absent: ClassVar[dict[str, Any]] = {"tie_word_embeddings": False, "max_position_embeddings": 2048}
        fixed: ClassVar[dict[str, Any]] = {
            "hidden_act": ("sqrelu",), "norm_first": (True,), "norm_bias": (True,), "attn": (None,),
        }  # fmt: skip
        harmless: ClassVar[tuple[str, ...]] = (
            "attn_mode", "fuse_norm", "fuse_cross_entropy", "fuse_linear_cross_entropy", "use_l2warp", "hidden_ratio",
            "num_heads",  # head_dim decides; the hub's folders often say 32, the class's former default
        )  # fmt: skip

        name: Literal["rwkv7"] = "rwkv7"  # type: ignore[assignment]  # narrows
        hidden_size: int = Field(256, gt=1)
        """Channels of the residual stream."""
        intermediate_size: int | None = Field(None, gt=0)
        """Inner channels of channel mixing; null: 4 * hidden_size."""
        num_hidden_layers: int = Field(6, gt=0)
        """Layers."""
        head_dim: int = Field(64, gt=1)
        """Channels of a head, a divisor of the width; a head remembers the square of it."""
        decay_low_rank_dim: int | None = Field(None, gt=0)
        """Channels through which decays are made; null: by the width, as the authors choose it."""
        gate_low_rank_dim: int | None = Field(None, gt=0)
        """Channels through which the gate is made; null: by the width."""
        a_low_rank_dim: int | None = Field(None, gt=0)
        """Channels through which the rates of correction are made; null: by the width."""
        v_low_rank_dim: int | None = Field(None, gt=0)
        """Channels through which the share of the first layer's values is made; null: by the width."""
        norm_eps: float = Field(1e-5, gt=0)
        """Added to the variance; times head_dim in the norm of a head."""
        max_position_embeddings: int = Field(512, gt=0)
        """Most tokens a row is made for; the memory itself has no end."""
        initializer_range: float = 0.02
        """Without effect: first values follow the authors' rules."""

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.hidden_size % self.head_dim:
                raise ValueError(f"hidden_size {self.hidden_size} does not divide among heads of {self.head_dim} channels")
            return self

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """Channel mixing is wider than a gated layer, four widths, since it has two matrices instead of three."""
            chosen = super().sized(width=width, inner=4 * width, layers=layers, heads=heads, context=context)
            return {**chosen, "head_dim": 64 if width % 64 == 0 else 32 if width % 32 == 0 else width}

        @classmethod
        def from_hf(cls, found: dict[str, Any]) -> Self:
            """Read a config.json; its copies of sizes are dropped where they agree; values of another width are refused."""
            width, head, depth = (found.get(key) or 1 for key in ("hidden_size", "head_dim", "num_hidden_layers"))
            same = {
                "attention_hidden_size": (None, width), "value_dim": (None, width, [width] * depth),
                "num_attention_heads": (None, width // head),
            }  # fmt: skip
            return super().from_hf({key: value for key, value in found.items() if value not in same.get(key, ())})

        @property
        def heads(self) -> int:
            """Heads."""
            return self.hidden_size // self.head_dim

        @property
        def inner(self) -> int:
            """Inner channels of channel mixing, resolved."""
            return self.intermediate_size or 4 * self.hidden_size

        @property
        def ranks(self) -> dict[str, int]:
            """Channels of the low-rank matrices, resolved: multiples of 32 that grow with the root of the width."""
            root = self.hidden_size**0.5
            given = {
                "decay": (self.decay_low_rank_dim, 2.5), "gate": (self.gate_low_rank_dim, 5.0), "a": (self.a_low_rank_dim, 2.5),
                "v": (self.v_low_rank_dim, 1.7),
            }  # fmt: skip
            return {name: rank or max(32, round(share * root / 32) * 32) for name, (rank, share) in given.items()}

        def to_hf(self) -> dict[str, Any]:
            ranks = {f"{name}_low_rank_dim": rank for name, rank in self.ranks.items()}
            return {**super().to_hf(), **ranks, "intermediate_size": self.inner, "num_heads": self.heads, "fuse_norm": False}

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.model = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.initialise(seed)

    def read(self, ids_BT: Tensor, sight: Sight, memories: Sequence[RecurrentState | None]) -> Tensor:
        x, v_first = self.model.embeddings(ids_BT), None
        for layer, memory in zip(self.model.layers, memories, strict=True):
            x, v_first = layer(x, v_first, sight, memory)
        return self.model.norm(x)

    @property
    def embedding(self) -> nn.Parameter:
        return self.model.embeddings.weight

    def first(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor | None:
        """As the authors' code: what writes to the stream starts at zero, the rest orthogonal or spread by channel and depth."""
        config = self.config
        if name == "lm_head.weight":
            return orthogonal(parameter, 0.5 * max(1.0, config.vocab_size / config.hidden_size) ** 0.5, generator)
        if name.endswith("embeddings.weight"):
            return uniform(parameter, 1e-4, generator)
        if name.endswith(("o_proj.weight", "ffn.value.weight", "lora.0.weight")):
            return torch.zeros_like(parameter)
        if name.endswith("lora.2.weight"):
            return orthogonal(parameter, 0.1, generator)
        if name.endswith(("r_proj.weight", "k_proj.weight", "v_proj.weight", "ffn.key.weight")):
            return orthogonal(parameter, 0.1 if "k_proj" in name else 1.0, generator)
        chosen = _by_channel(name, config, parameter.device)
        return None if chosen is None else chosen.expand(parameter.shape)

    def new_memory(self, batch: int) -> RecurrentState:
        config, where = self.config, {"device": self.embedding.device}
        return RecurrentState(
            time_before=torch.zeros(batch, config.hidden_size, **where),
            channel_before=torch.zeros(batch, config.hidden_size, **where),
            matrix=torch.zeros(batch, config.heads, config.head_dim, config.head_dim, **where),
        )

    def scan_flops(self) -> float:
        return 10.0 * self.config.depth * self.config.hidden_size * self.config.head_dim

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "head_dim": 8,
            "decay_low_rank_dim": 5, "gate_low_rank_dim": 9, "a_low_rank_dim": 6, "v_low_rank_dim": 3,
            "max_position_embeddings": 64,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))  # type: ignore[arg-type]


def _by_channel(name: str, config: Any, device: torch.device) -> Tensor | None:
    """Biases, blends and factors that differ by channel and depth at the start, (D,) or a number; None for others."""
    place = name.split(".")
    if len(place) < 4 or place[3] not in ("attn", "ffn"):
        return None
    layer, part = int(place[2]), ".".join(place[4:])
    deep, shallow = layer / max(config.num_hidden_layers - 1, 1), 1 - layer / config.num_hidden_layers
    channel = torch.arange(config.hidden_size, device=device, dtype=torch.float32)
    slope = channel / (config.hidden_size - 1) - 0.5
    in_head = 2 * (channel % config.head_dim) / (config.head_dim - 1) - 1
    zigzag = in_head * in_head.abs()
    if place[3] == "ffn":
        return 1 - (channel / config.hidden_size) ** (shallow**4) if part == "x_k" else None
    if part in _BLENDS:
        return 1 - (channel / config.hidden_size) ** (_BLENDS[part] * shallow)
    values = {
        "w_lora.lora.2.bias": -5.5 + 6 * (channel / (config.hidden_size - 1)) ** (1 + deep**0.3) + 2.5 * zigzag,
        "a_lora.lora.2.bias": -0.19 + 0.3 * zigzag + 0.4 * slope,
        "v_lora.lora.2.bias": 0.73 - 0.4 * slope,
        "k_k": 0.71 - 0.1 * slope,
        "k_a": torch.tensor(1.02),
        "r_k": torch.tensor(-0.04),
        "g_norm.weight": torch.tensor(((layer + 1) / config.num_hidden_layers) ** 0.7),
    }
    return values.get(part)
