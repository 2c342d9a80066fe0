"""What the Llama lineage shares: embedding, a stack of pre-norm rotary blocks, a final norm, a head.

A family says how its block attends (llama.py, qwen3.py). B rows, T tokens, D width.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor, arange, nn

from danlu.models.base import CausalLM
from danlu.models.config import ModelConfig
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight, positions
from danlu.nn.mlp import SwiGLU
from danlu.nn.norm import RMSNorm
from danlu.nn.rope import turns
from danlu.nn.self_attention import SelfAttention
from danlu.nn.state import KeyMemory, LayerState, State, WindowState


class DecoderConfig(ModelConfig):
    """Sizes and constants of a rotary decoder."""

    required: ClassVar[tuple[str, ...]] = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    )  # fmt: skip
    fixed: ClassVar[dict[str, Any]] = {"hidden_act": ("silu", "swish")}

    hidden_size: int = Field(256, gt=0)
    """Channels of the residual stream."""
    intermediate_size: int = Field(704, gt=0)
    """Inner channels of the feed-forward layer."""
    num_hidden_layers: int = Field(6, gt=0)
    """Layers."""
    num_attention_heads: int = Field(4, gt=0)
    """Query heads."""
    num_key_value_heads: int | None = Field(None, gt=0)
    """Key and value heads, a divisor of the query heads; null: as many as query heads."""
    head_dim: int | None = Field(None, gt=0)
    """Channels of a head, even; null: hidden_size / num_attention_heads."""
    max_position_embeddings: int = Field(512, gt=0)
    """Most tokens a row is made for."""
    rope_theta: float = Field(10_000.0, gt=0)
    """Base of the rotary wavelengths."""
    rms_norm_eps: float = Field(1e-6, gt=0)
    """Added to the mean square."""
    attention_bias: bool = False
    """Biases in the attention projections."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.num_attention_heads % self.key_heads:
            raise ValueError(f"{self.num_attention_heads} query heads do not divide among {self.key_heads} key heads")
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide among {self.num_attention_heads} heads; give head_dim"
            )
        if self.head_width % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_width}")
        return self

    @property
    def key_heads(self) -> int:
        """Key and value heads, resolved."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_width(self) -> int:
        """Channels of a head, resolved."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def windows(self) -> tuple[int | None, ...]:
        """What each layer looks through: only tokens less than so many places away; None: all before."""
        return (None,) * self.num_hidden_layers

    @property
    def width(self) -> int:
        return self.hidden_size

    @property
    def depth(self) -> int:
        return self.num_hidden_layers

    @property
    def context(self) -> int:
        return self.max_position_embeddings

    @property
    def attention_width(self) -> int:
        return self.num_attention_heads * self.head_width

    @classmethod
    def read_rope(cls, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Rotary settings of transformers 5 (`rope_parameters`) and of earlier ones (`rope_theta`, `rope_scaling`)."""
        wrong = []
        for field in ("rope_parameters", "rope_scaling"):
            rope = dict(found.pop(field, None) or {})
            found["rope_theta"] = rope.pop("rope_theta", found.get("rope_theta"))
            kind = rope.pop("rope_type", rope.pop("type", "default"))
            rope.pop("type", None)
            if kind != "default" or rope:
                wrong.append(f"{field}: {dict(rope, rope_type=kind)} (computed here: rope_type 'default')")
        if found["rope_theta"] is None:
            del found["rope_theta"]
        return found, wrong

    def to_hf(self) -> dict[str, Any]:
        resolved = {"num_key_value_heads": self.key_heads, "head_dim": self.head_width}
        return {**super().to_hf(), **resolved, "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta}}


class Block(nn.Module):
    """Pre-norm decoder layer, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: DecoderConfig, attention: SelfAttention, mlp: nn.Module):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = attention
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = mlp

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], sight: Sight, state: KeyMemory | None = None) -> Tensor:
        x = x + self.self_attn(x, self.input_layernorm, rope, sight, state)
        return x + self.mlp(x, self.post_attention_layernorm)


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use: ids (B, T) -> (B, T, D)."""

    def __init__(self, config: DecoderConfig, blocks: list[Block]):
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(blocks)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Decoder(CausalLM):
    """A family of the Llama lineage; `block` is what a subclass writes."""

    def __init__(self, config: DecoderConfig, seed: int = 0):
        super().__init__(config)
        self.model = self.trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.initialise(seed)

    @classmethod
    def trunk(cls, config: Any) -> nn.Module:
        """All but the head."""
        return Trunk(config, [cls.block(config) for _ in range(config.num_hidden_layers)])

    @staticmethod
    @abstractmethod
    def block(config: Any) -> nn.Module:
        """One layer of this family."""

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        sight = Sight(ids_BT.size(1), state.length if state else 0, documents_BT, prefix_BT=prefix_BT)
        sights = {window: sight.within(window) for window in set(self.config.windows)}
        rope = self.rope(sight, ids_BT)
        x = self.model.embed_tokens(ids_BT)
        for index, (layer, window) in enumerate(zip(self.model.layers, self.config.windows, strict=True)):
            x = layer(x, rope, sights[window], state.layers[index] if state else None)
        if state:
            state.length += ids_BT.size(1)
        return self.model.norm(x)

    def rope(self, sight: Sight, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine for each token's place in its document, (T, K/2), or (B, T, K/2) where rows differ."""
        if sight.mixed_rows is None:
            at = arange(sight.start, sight.start + sight.tokens, device=ids_BT.device)
        else:
            at = positions(sight.documents_BT)  # type: ignore[arg-type]  # mixed rows have documents
        return turns(at, self.config.head_width, self.config.rope_theta)

    @property
    def embedding(self) -> nn.Parameter:
        return self.model.embed_tokens.weight

    def new_state(self, batch: int, capacity: int) -> State:
        return self.make_state(State, batch, capacity)

    def make_state(self, kind: type[State], batch: int, capacity: int) -> State:
        """A memory of the given kind: a layer with a window keeps that window alone."""
        config, where = self.config, (self.activation_dtype, self.embedding.device)
        sizes = (batch, config.key_heads)
        return kind([
            LayerState(*sizes, capacity, config.head_width, *where) if window is None
            else WindowState(*sizes, window, config.head_width, *where)
            for window in config.windows
        ])  # fmt: skip

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6,
            "num_key_value_heads": 3, "head_dim": 10, "max_position_embeddings": 64, "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))  # type: ignore[arg-type]


def swiglu(config: DecoderConfig, bias: bool = False) -> SwiGLU:
    """The feed-forward layer of this lineage."""
    return SwiGLU(config.hidden_size, config.intermediate_size, bias)
