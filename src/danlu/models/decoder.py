"""What the Llama lineage shares: embedding, a stack of pre-norm rotary blocks, a final norm, a head.

A family says how its block attends (llama.py, qwen3.py). B rows, T tokens, D width.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from danlu.models.base import CausalLM
from danlu.models.config import ModelConfig
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight, lengths
from danlu.nn.mlp import SwiGLU
from danlu.nn.norm import RMSNorm
from danlu.nn.rope import turns_by
from danlu.nn.rope_scaling import RopeScaling, scaled
from danlu.nn.self_attention import SelfAttention
from danlu.nn.sinks import Endless, SinkState, unturned
from danlu.nn.state import KeyMemory, LayerState, State, WindowState, view


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
    rope_scaling: RopeScaling | None = None
    """Rotary frequencies for longer texts; null: as they are."""
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
        if self.rotary_width < 2 or self.rotary_width % 2:
            raise ValueError(f"rotary positions turn pairs of channels, not {self.rotary_width} of a head: give an even head_dim")
        if self.rope_scaling:
            self.rope_scaling.check(self.rotary_width)
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
    def rotary_width(self) -> int:
        """Channels of a head that carry positions: its first ones."""
        return self.head_width

    @property
    def windows(self) -> tuple[int | None, ...]:
        """What each layer looks through: only tokens less than so many places away; None: all before."""
        return (None,) * self.num_hidden_layers

    @property
    def context(self) -> int:
        grown = self.rope_scaling is not None and self.rope_scaling.rope_type == "dynamic"  # its formula wants the trained length
        return int(self.max_position_embeddings * self.rope_scaling.factor) if grown else self.max_position_embeddings

    @property
    def attention_width(self) -> int:
        return self.num_attention_heads * self.head_width

    @classmethod
    def read_rope(cls, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Rotary settings of transformers 5 (`rope_parameters`) and of earlier ones (`rope_theta`, `rope_scaling`)."""
        wrong, read = [], {}
        for field in ("rope_parameters", "rope_scaling"):
            if said := found.pop(field, None):
                try:
                    theta, read[field] = read_scaling(said)
                except ValueError as error:
                    wrong.append(f"{field}: {said} ({error})")
                else:
                    found["rope_theta"] = found.get("rope_theta") if theta is None else theta
        if read:
            found["rope_scaling"] = read.get("rope_scaling", read.get("rope_parameters"))
        if len(read) == 2 and read["rope_scaling"] != read["rope_parameters"]:
            wrong.append("rope_scaling: rope_parameters says otherwise")
        if found.get("rope_theta", 0) is None:
            del found["rope_theta"]
        return found, wrong

    def to_hf(self) -> dict[str, Any]:
        own = super().to_hf()
        del own["rope_scaling"]
        rope = {"rope_type": "default"}
        if self.rope_scaling:
            own["rope_scaling"] = rope = self.rope_scaling.model_dump(mode="json", exclude_none=True)
        resolved = {"num_key_value_heads": self.key_heads, "head_dim": self.head_width}
        return {**own, **resolved, "rope_parameters": {**rope, "rope_theta": self.rope_theta}}


def planned(end: int, state: State | None, trained: int) -> int:
    """Tokens that the text will have, for frequencies that depend on it: what the memory was made for, once and for all.

    Keys in a memory are turned already, so a length that grew with the text would leave them behind. Raises ValueError when
    a text outgrows its memory beyond the trained length.
    """
    if state is None:
        return end
    if end > max(state.planned, trained):
        raise ValueError(
            f"{end} tokens, but this memory was made for {state.planned} and rotary frequencies here depend on that number: "
            f"make it with new_state(batch, capacity) of the whole text's length"
        )
    return state.planned


def read_scaling(said: dict[str, Any]) -> tuple[float | None, RopeScaling | None]:
    """Base and scaling that a rope dictionary of config.json means. Raises ValueError with the reasons to refuse it."""
    rope = dict(said)
    theta, old = rope.pop("rope_theta", None), rope.pop("type", "default")
    kind = rope.pop("rope_type", old)
    if rope.get("partial_rotary_factor") == 1.0:
        del rope["partial_rotary_factor"]
    if kind == "default" and not rope:
        return theta, None
    try:
        return theta, RopeScaling(**{**rope, "rope_type": "longrope" if kind == "su" else kind})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, line['loc']))} {line['msg']}".strip() for line in error.errors()]
        raise ValueError("; ".join(lines)) from None


class Block(nn.Module):
    """Pre-norm decoder layer, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: DecoderConfig, attention: SelfAttention, mlp: nn.Module, norm: type[RMSNorm] = RMSNorm):
        super().__init__()
        self.input_layernorm = norm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = attention
        self.post_attention_layernorm = norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = mlp

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], sight: Sight, state: KeyMemory | None = None) -> Tensor:
        x = x + self.self_attn(x, self.input_layernorm, rope, sight, state)
        return x + self.mlp(x, self.post_attention_layernorm)


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use: ids (B, T) -> (B, T, D)."""

    def __init__(self, config: DecoderConfig, blocks: Sequence[nn.Module], norm: type[RMSNorm] = RMSNorm):
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(blocks)
        self.norm = norm(config.hidden_size, config.rms_norm_eps)

    def embed(self, ids_BT: Tensor) -> Tensor:
        """What the first layer reads, (B, T, D)."""
        return self.embed_tokens(ids_BT)


class Decoder(CausalLM):
    """A family of the Llama lineage; `block` is what a subclass writes."""

    long_rows: ClassVar[bool] = True

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
        if isinstance(state, Endless):
            if documents_BT is not None or prefix_BT is not None:
                raise ValueError("an endless text is one document read from left to right: give a state or documents, not both")
            return torch.cat([self.endless(part, state) for part in ids_BT.split(state.most, dim=1)], dim=1)
        sight = view(ids_BT, state, documents_BT, prefix_BT)
        sights = {window: sight.within(window) for window in set(self.config.windows)}
        ropes = self.ropes(sight, ids_BT, state)
        x = self.model.embed(ids_BT)
        for index, (layer, rope, window) in enumerate(zip(self.model.layers, ropes, self.config.windows, strict=True)):
            x = layer(x, rope, sights[window], state.layers[index] if state else None)
        if state:
            state.length += ids_BT.size(1)
        return self.model.norm(x)

    def endless(self, ids_BT: Tensor, state: Endless) -> Tensor:
        """`hidden` of no more tokens than a window holds, with places counted in what is kept."""
        new = ids_BT.size(1)
        sight, ropes = Sight(new, state.length), self.ropes(Sight(state.places(new)), ids_BT, state)
        x = self.model.embed(ids_BT)
        for layer, turns, memory in zip(self.model.layers, ropes, state.layers, strict=True):
            memory.turns = turns
            x = layer(x, unturned(turns, new), sight.within(memory.window, memory.sinks), memory)
        state.length += new
        return self.model.norm(x)

    def ropes(self, sight: Sight, ids_BT: Tensor, state: State | None = None) -> list[tuple[Tensor, Tensor]]:
        """Each layer's cosine and sine."""
        return [self.rope(sight, ids_BT, state)] * self.config.depth

    def rope(self, sight: Sight, ids_BT: Tensor, state: State | None = None) -> tuple[Tensor, Tensor]:
        """Cosine and sine for each token's place in its document, (T, K/2), or (B, T, K/2) where rows differ."""
        config, end = self.config, sight.end
        scaling, length = config.rope_scaling, end
        if scaling and scaling.by_length:
            length = planned(end, state, scaling.trained(config.max_position_embeddings))
            if sight.mixed_rows is not None:
                length = lengths(sight.documents_BT)  # type: ignore[arg-type]
        found = scaled(scaling, config.rotary_width, config.rope_theta, config.max_position_embeddings, length)
        return turns_by(sight.at(ids_BT.device), *found)

    @property
    def embedding(self) -> nn.Parameter:
        return self.model.embed_tokens.weight

    def new_state(self, batch: int, capacity: int) -> State:
        return self.make_state(State, batch, capacity)

    def endless_state(self, batch: int, window: int, sinks: int = 4) -> Endless:
        """A memory of one size for endless text (nn/sinks.py): the first `sinks` tokens, and the latest `window`.

        A layer that learned with a window no longer than that keeps its own, without sinks, as it learned. Raises ValueError
        where the two exceed the model's context, or the family attends in another way.
        """
        config, where = self.config, (self.activation_dtype, self.embedding.device)
        if not 0 < window + sinks <= config.context or window < 1 or sinks < 0:
            raise ValueError(f"a window of {window} and {sinks} sinks must fit the model's context, {config.context}, together")
        if not all(isinstance(getattr(layer, "self_attn", None), SelfAttention) for layer in self.model.layers):
            raise ValueError(f"{config.name} does not attend as sinks need it: its keys are no rotary keys of their own")
        kept = [(own, 0) if own is not None and own <= window else (window, sinks) for own in config.windows]
        state = Endless([
            SinkState(batch, config.key_heads, latest, config.head_width, *where, sinks=first) for latest, first in kept
        ])  # fmt: skip
        state.planned = sinks + 2 * window
        return state

    def make_state(self, kind: type[State], batch: int, capacity: int) -> State:
        """A memory of the given kind: a layer with a window keeps that window alone."""
        config, where = self.config, (self.activation_dtype, self.embedding.device)
        sizes = (batch, config.key_heads)
        state = kind([
            LayerState(*sizes, capacity, config.head_width, *where) if window is None
            else WindowState(*sizes, window, config.head_width, *where)
            for window in config.windows
        ])  # fmt: skip
        state.planned = capacity
        return state

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
