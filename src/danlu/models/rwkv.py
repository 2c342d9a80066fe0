"""RWKV-4 (Peng et al. 2023, arXiv:2305.13048): a Transformer's layout whose attention is a fading mean, one for every channel.

Time mixing answers with a weighted mean of all values so far: weights e^key, faded by e^-w a token, a bonus for the token itself,
a gate over the whole (eq. 16 and 17). Channel mixing is a squared-ReLU feed-forward layer behind a gate. Both look at a blend of
each token with the one before. This is the version that transformers computes; rwkv7.py is the newest.
B rows, T tokens, D width.
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
from danlu.nn.init import orthogonal, uniform
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import LayerNorm
from danlu.nn.state import RecurrentState
from danlu.nn.wkv import EMPTY, previous, wkv

_LAST_EPS = 1e-5
"""Of the final norm, which config.json does not set."""


class Mixing(nn.Module):
    """Blends each token with the one before; a subclass says for which projections it learns a share."""

    def __init__(self, width: int, *names: str):
        super().__init__()
        for name in names:
            setattr(self, f"time_mix_{name}", nn.Parameter(torch.empty(1, 1, width)))

    def blend(self, x: Tensor, before: Tensor, name: str) -> Tensor:
        """What a projection reads, (B, T, D): a share of the token, the rest of the one before."""
        share = getattr(self, f"time_mix_{name}").to(x.dtype)
        return before + share * (x - before)


class TimeMixing(Mixing):
    """x (B, T, D), normed -> (B, T, D); arXiv:2305.13048, eq. 11-18."""

    def __init__(self, width: int):
        super().__init__(width, "key", "value", "receptance")
        self.time_decay = nn.Parameter(torch.empty(width))
        self.time_first = nn.Parameter(torch.empty(width))
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.receptance = Linear(width, width)
        self.output = Linear(width, width)

    def forward(self, x: Tensor, sight: Sight, memory: RecurrentState | None) -> Tensor:
        before = previous(x, sight.fresh, None if memory is None else memory.time_before)
        k, v, r = (getattr(self, name)(self.blend(x, before, name)) for name in ("key", "value", "receptance"))
        held = _nothing(len(x), x.size(-1), x.device) if memory is None else memory.mean
        w, u = self.time_decay.float().exp(), self.time_first.float()
        y, after = wkv(w, u, k.float(), v.float(), held, sight.fresh)
        if memory is not None:
            memory.time_before, memory.mean = x[:, -1].detach().float(), after.detach()
        return self.output(r.sigmoid() * y.to(x.dtype))


class ChannelMixing(Mixing):
    """x (B, T, D), normed -> (B, T, D) through F inner channels; arXiv:2305.13048, eq. 19-21."""

    def __init__(self, width: int, inner: int):
        super().__init__(width, "key", "receptance")
        self.key = Linear(width, inner)
        self.receptance = Linear(width, width)
        self.value = Linear(inner, width)

    def forward(self, x: Tensor, sight: Sight, memory: RecurrentState | None) -> Tensor:
        before = previous(x, sight.fresh, None if memory is None else memory.channel_before)
        if memory is not None:
            memory.channel_before = x[:, -1].detach().float()
        inner = F.relu(self.key(self.blend(x, before, "key"))).square()
        return self.receptance(self.blend(x, before, "receptance")).sigmoid() * self.value(inner)


class Block(nn.Module):
    """Pre-norm layer, (B, T, D) -> (B, T, D); the first also norms what it is given."""

    def __init__(self, config: "RWKV.Config", first: bool):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_epsilon
        if first:
            self.pre_ln = LayerNorm(width, eps)
        self.ln1 = LayerNorm(width, eps)
        self.ln2 = LayerNorm(width, eps)
        self.attention = TimeMixing(width)
        self.feed_forward = ChannelMixing(width, config.inner)

    def forward(self, x: Tensor, sight: Sight, memory: RecurrentState | None = None) -> Tensor:
        if hasattr(self, "pre_ln"):
            x = self.pre_ln(x).float()
        x = x + self.attention(self.ln1(x), sight, memory)
        return x + self.feed_forward(self.ln2(x), sight, memory)


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: "RWKV.Config"):
        super().__init__()
        self.embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList([Block(config, first=index == 0) for index in range(config.num_hidden_layers)])
        self.ln_out = LayerNorm(config.hidden_size, _LAST_EPS)


@MODELS.register
class RWKV(RecurrentLM):
    """Loads and writes RwkvForCausalLM folders."""

    class Config(RecurrentConfig):
        hf_type: ClassVar[str] = "rwkv"
        hf_class: ClassVar[str] = "RwkvForCausalLM"
        sizes: ClassVar[dict[str, str]] = {
            "width": "hidden_size", "inner": "intermediate_size", "layers": "num_hidden_layers", "context": "context_length",
        }  # fmt: skip
        required: ClassVar[tuple[str, ...]] = ("vocab_size", "hidden_size", "num_hidden_layers")
        absent: ClassVar[dict[str, Any]] = {"tie_word_embeddings": False, "context_length": 1024}
        harmless: ClassVar[tuple[str, ...]] = ("rescale_every",)  # halves layers of a model in half precision, and undoes it

        name: Literal["rwkv"] = "rwkv"  # type: ignore[assignment]  # narrows
        hidden_size: int = Field(256, gt=1)
        """Channels of the residual stream."""
        intermediate_size: int | None = Field(None, gt=0)
        """Inner channels of channel mixing; null: 4 * hidden_size."""
        num_hidden_layers: int = Field(6, ge=2)
        """Layers, at least two: the rule of first values has no room for one, here and in transformers."""
        context_length: int = Field(512, gt=0)
        """Most tokens a row is made for; the memory itself has no end."""
        layer_norm_epsilon: float = Field(1e-5, gt=0)
        """Added to the variance."""
        initializer_range: float = 0.02
        """Without effect: first values follow the authors' rules."""

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """Channel mixing is wider than a gated layer, four widths, since it has two large matrices instead of three."""
            return super().sized(width=width, inner=4 * width, layers=max(layers, 2), heads=heads, context=context)

        @classmethod
        def from_hf(cls, found: dict[str, Any]) -> Self:
            """Read a config.json; heads of another width than the stream are not computed here."""
            same = {"attention_hidden_size": (None, found.get("hidden_size"))}
            return super().from_hf({key: value for key, value in found.items() if value not in same.get(key, ())})

        @property
        def inner(self) -> int:
            """Inner channels, resolved."""
            return self.intermediate_size or 4 * self.hidden_size

        def to_hf(self) -> dict[str, Any]:
            return {**super().to_hf(), "intermediate_size": self.inner, "rescale_every": 0}

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.rwkv = Trunk(config)
        if not config.tie_word_embeddings:
            self.head = Linear(config.hidden_size, config.vocab_size)
        self.initialise(seed)

    def read(self, ids_BT: Tensor, sight: Sight, memories: Sequence[RecurrentState | None]) -> Tensor:
        x = self.rwkv.embeddings(ids_BT)
        for block, memory in zip(self.rwkv.blocks, memories, strict=True):
            x = block(x, sight, memory)
        return self.rwkv.ln_out(x)

    @property
    def embedding(self) -> nn.Parameter:
        return self.rwkv.embeddings.weight

    @property
    def output_weight(self) -> Tensor:
        return self.embedding if self.config.tie_word_embeddings else self.head.weight

    def name_here(self, name: str) -> str | None:
        tied = name == "head.weight" and self.config.tie_word_embeddings
        return "rwkv.embeddings.weight" if tied else super().name_here(name)

    def first(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor | None:
        """As arXiv:2305.13048, appendix E: what writes starts at zero, decays and blends spread by channel and depth."""
        config, part = self.config, name.rsplit(".", 1)[0]
        if name == "head.weight":
            return orthogonal(parameter, 0.5 * max(1.0, config.vocab_size / config.hidden_size) ** 0.5, generator)
        if part.endswith("embeddings"):
            return uniform(parameter, 1e-4, generator)
        if parameter.dim() == 2:
            zero = ("attention.key", "attention.receptance", "attention.output", "feed_forward.value", "feed_forward.receptance")
            rows, columns = parameter.shape
            gain = 0.0 if part.endswith(zero) else max(1.0, rows / columns) ** 0.5
            return gain * orthogonal(parameter, 1.0, generator) if gain else torch.zeros_like(parameter)
        if ".time_" not in f".{name.rsplit('.', 1)[1]}":
            return None
        return _by_channel(name, config, parameter).view(parameter.shape)

    def new_memory(self, batch: int) -> RecurrentState:
        width, device = self.config.hidden_size, self.embedding.device
        before = torch.zeros(batch, width, device=device)
        return RecurrentState(time_before=before, channel_before=before.clone(), mean=_nothing(batch, width, device))

    def scan_flops(self) -> float:
        return 20.0 * self.config.depth * self.config.hidden_size

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {"vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "context_length": 64}
        return cls(cls.Config(**{**sizes, **changes}))  # type: ignore[arg-type]


def _nothing(batch: int, width: int, device: torch.device) -> Tensor:
    """The mean over no token, (B, 3, D)."""
    return torch.tensor([0.0, 0.0, EMPTY], device=device)[:, None].repeat(batch, 1, width)


def _by_channel(name: str, config: Any, parameter: Tensor) -> Tensor:
    """Decays, bonuses and blends, (D,): channels differ from the start, the more so the deeper the layer."""
    width, depth = config.hidden_size, config.num_hidden_layers
    layer = int(name.split(".")[2])
    deep, shallow = layer / (depth - 1), 1 - layer / depth
    channel = torch.arange(width, device=parameter.device, dtype=torch.float32)
    share = channel / width
    if name.endswith("time_decay"):
        return -5 + 8 * (channel / (width - 1)) ** (0.7 + 1.3 * deep)
    if name.endswith("time_first"):
        return math.log(0.3) + 0.5 * ((channel + 1) % 3 - 1)
    if name.endswith("time_mix_value"):
        return share**shallow + 0.3 * deep
    return share ** (0.5 * shallow if name.endswith("attention.time_mix_receptance") else shallow)
