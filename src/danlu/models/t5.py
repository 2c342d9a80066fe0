"""T5 (Raffel et al. 2020, arXiv:1910.10683): an encoder reads both ways, a decoder writes; positions are relative.

Beside the original Transformer (marian.py): norms stand before their layer and have a gain alone, no matrix has a bias, places
are numbers added to the scores (nn/relative.py, learned once a stack, in its first layer), and scores are not divided by
the root of the head width; q's first values are smaller instead. Version 1.1 gates the feed-forward layer (arXiv:2002.05202)
and has a head of its own; the first version shares the embedding and scales what meets it by width ** -0.5.

B rows, T tokens written, S tokens of the source, D width, H heads, K head width.
"""

from collections.abc import Collection
from typing import Any, ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.base import Seq2SeqLM
from danlu.models.config import Seq2SeqConfig
from danlu.nn.attention import attend
from danlu.nn.cross import Across, heads, joined
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import RMSNorm
from danlu.nn.project import project
from danlu.nn.relative import RelativeBias
from danlu.nn.state import CrossState, LayerState, State


class Attention(nn.Module):
    """Four matrices without bias; the products of queries and keys are taken as they are."""

    def __init__(self, config: "T5.Config", bias: RelativeBias | None = None):
        super().__init__()
        self.heads, inner = config.num_heads, config.attention_width
        self.q, self.k, self.v = (Linear(config.d_model, inner) for _ in range(3))
        self.o = Linear(inner, config.d_model)
        if bias is not None:
            self.relative_attention_bias = bias


class SelfAttention(nn.Module):
    """x (B, T, D) -> (B, T, D), the stream added."""

    def __init__(self, config: "T5.Config", bias: RelativeBias | None):
        super().__init__()
        self.SelfAttention = Attention(config, bias)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, bias: Tensor, sight: Sight, state: LayerState | None) -> Tensor:
        inner = self.SelfAttention
        q, k, v = (heads(part, inner.heads) for part in project(x, self.layer_norm, inner.q, inner.k, inner.v))
        if state is not None:
            k, v = state.append(sight.start, k, v)
        return x + inner.o(joined(attend(q, k, v, sight, scale=1.0, bias=bias)))


class CrossAttention(nn.Module):
    """x (B, T, D) -> (B, T, D), the stream added, looking at the source; no positions."""

    def __init__(self, config: "T5.Config"):
        super().__init__()
        self.EncDecAttention = Attention(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, across: Across, state: CrossState | None) -> Tensor:
        inner = self.EncDecAttention
        (q,) = project(x, self.layer_norm, inner.q)
        k, v = across.keys_values(
            state, lambda source: (heads(inner.k(source), inner.heads), heads(inner.v(source), inner.heads))
        )
        return x + inner.o(joined(across.attend(heads(q, inner.heads), k, v, scale=1.0)))


class Plain(nn.Module):
    """The feed-forward layer of the first version: relu."""

    def __init__(self, config: "T5.Config"):
        super().__init__()
        self.wi = Linear(config.d_model, config.d_ff)
        self.wo = Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor, norm: RMSNorm) -> Tensor:
        (up,) = project(x, norm, self.wi)
        return self.wo(up.relu())


class Gated(nn.Module):
    """The feed-forward layer of version 1.1: a GELU, in its tanh form, times a second product."""

    def __init__(self, config: "T5.Config"):
        super().__init__()
        self.wi_0 = Linear(config.d_model, config.d_ff)
        self.wi_1 = Linear(config.d_model, config.d_ff)
        self.wo = Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor, norm: RMSNorm) -> Tensor:
        gate, up = project(x, norm, self.wi_0, self.wi_1)
        return self.wo(F.gelu(gate, approximate="tanh") * up)


class FeedForward(nn.Module):
    """x (B, T, D) -> (B, T, D), the stream added."""

    def __init__(self, config: "T5.Config"):
        super().__init__()
        self.DenseReluDense = Gated(config) if config.feed_forward_proj == "gated-gelu" else Plain(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.DenseReluDense(x, self.layer_norm)


class EncoderBlock(nn.Module):
    """(B, S, D) -> (B, S, D)."""

    def __init__(self, config: "T5.Config", bias: RelativeBias | None):
        super().__init__()
        self.layer = nn.ModuleList([SelfAttention(config, bias), FeedForward(config)])

    def forward(self, x: Tensor, bias: Tensor, sight: Sight) -> Tensor:
        x = self.layer[0](x, bias, sight, None)
        return self.layer[1](x)


class DecoderBlock(nn.Module):
    """(B, T, D) -> (B, T, D)."""

    def __init__(self, config: "T5.Config", bias: RelativeBias | None):
        super().__init__()
        self.layer = nn.ModuleList([SelfAttention(config, bias), CrossAttention(config), FeedForward(config)])

    def forward(self, x: Tensor, bias: Tensor, sight: Sight, across: Across, state: CrossState | None) -> Tensor:
        x = self.layer[0](x, bias, sight, state)
        x = self.layer[1](x, across, state)
        return self.layer[2](x)


class Stack(nn.Module):
    """Blocks and the norm behind them; the first block holds what all of them add to their scores."""

    def __init__(self, config: "T5.Config", block: type[nn.Module], layers: int, *, causal: bool):
        super().__init__()
        buckets, limit = config.relative_attention_num_buckets, config.relative_attention_max_distance
        first = RelativeBias(buckets, config.num_heads, limit, causal=causal)
        self.block = nn.ModuleList(block(config, None if index else first) for index in range(layers))
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def bias(self, sight: Sight) -> Tensor:
        """What the distances of this step add, (1, H, T, S)."""
        bias: Tensor = self.block[0].layer[0].SelfAttention.relative_attention_bias(sight.tokens, sight.start)
        return bias


@MODELS.register
class T5(Seq2SeqLM):
    """Loads and writes T5ForConditionalGeneration folders."""

    class Config(Seq2SeqConfig):
        hf_type: ClassVar[str] = "t5"
        hf_class: ClassVar[str] = "T5ForConditionalGeneration"
        sizes: ClassVar[dict[str, str]] = {
            "width": "d_model", "inner": "d_ff", "layers": "num_layers", "heads": "num_heads", "context": "n_positions",
        }  # fmt: skip
        required: ClassVar[tuple[str, ...]] = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
        absent: ClassVar[dict[str, Any]] = {"tie_word_embeddings": True, "feed_forward_proj": "relu"}

        name: Literal["t5"] = "t5"  # type: ignore[assignment]  # narrows
        d_model: int = Field(256, gt=0)
        """Channels of the residual stream."""
        d_kv: int = Field(64, gt=0)
        """Channels of a head."""
        d_ff: int = Field(704, gt=0)
        """Inner channels of the feed-forward layer."""
        num_layers: int = Field(4, gt=0)
        """Layers of the encoder."""
        num_decoder_layers: int | None = Field(None, gt=0)
        """Layers of the decoder; null: as many as the encoder."""
        num_heads: int = Field(4, gt=0)
        """Heads; all together may be wider or narrower than d_model."""
        relative_attention_num_buckets: int = Field(32, ge=4, multiple_of=2)
        """Kinds of distance that are told apart."""
        relative_attention_max_distance: int = Field(128, gt=0)
        """Distance from which all are alike."""
        feed_forward_proj: Literal["relu", "gated-gelu"] = "gated-gelu"
        """Feed-forward layer: of the first version, or of version 1.1."""
        scale_decoder_outputs: bool | None = None
        """Multiply by d_model ** -0.5 what meets the head; null: where the head is the embedding."""
        layer_norm_epsilon: float = Field(1e-6, gt=0)
        """Added to the mean square."""
        n_positions: int = Field(512, gt=0)
        """Most tokens of a source, or of an answer, that the model is made for; no table ends there."""
        initializer_range: float = 1.0
        """Factor on the standard deviations before training, which follow from the sizes of each matrix."""

        @property
        def decoder_layers(self) -> int:
            """Layers of the decoder, resolved."""
            return self.num_decoder_layers or self.num_layers

        @property
        def scales(self) -> bool:
            """Whether what meets the head is scaled, resolved."""
            return self.tie_word_embeddings if self.scale_decoder_outputs is None else self.scale_decoder_outputs

        @property
        def depth(self) -> int:
            return self.num_layers + self.decoder_layers

        @property
        def attention_width(self) -> int:
            return self.num_heads * self.d_kv

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """Half of the layers read, half write."""
            return {
                **super().sized(width=width, inner=inner, layers=-(-layers // 2), heads=heads, context=context),
                "d_kv": width // heads,
            }

        @classmethod
        def from_hf(cls, found: dict[str, Any]) -> Self:
            """transformers 5 writes what follows from `feed_forward_proj` beside it."""
            derived = ("dense_act_fn", "is_gated_act")
            return super().from_hf({key: value for key, value in found.items() if key not in derived})

        def to_hf(self) -> dict[str, Any]:
            resolved = {"num_decoder_layers": self.decoder_layers, "scale_decoder_outputs": self.scales}
            return {**super().to_hf(), **resolved, "initializer_factor": self.initializer_range}

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.shared = Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config, EncoderBlock, config.num_layers, causal=False)
        self.decoder = Stack(config, DecoderBlock, config.decoder_layers, causal=True)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.d_model, config.vocab_size)
        self.initialise(seed)

    def encode(self, source_BS: Tensor, *, documents_BS: Tensor | None = None) -> Tensor:
        sight = Sight(source_BS.size(1), 0, documents_BS, causal=False)
        x, bias = self.shared(source_BS), self.encoder.bias(sight)
        for block in self.encoder.block:
            x = block(x, bias, sight)
        return self.encoder.final_layer_norm(x)

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        source_BSD: Tensor | None = None,
        documents_BT: Tensor | None = None,
        source_documents_BS: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        sight = Sight(ids_BT.size(1), state.length if state else 0, documents_BT)
        across = Across.of(source_BSD, documents_BT, source_documents_BS, state)
        x, bias = self.shared(ids_BT), self.decoder.bias(sight)
        for index, block in enumerate(self.decoder.block):
            x = block(x, bias, sight, across, state.layers[index] if state else None)
        if state:
            state.length += sight.tokens
        return self.decoder.final_layer_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return super().logits(self._scaled(hidden))

    def to_head(self, hidden_ND: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return self._scaled(hidden_ND), {}

    def _scaled(self, hidden: Tensor) -> Tensor:
        return hidden * self.config.d_model**-0.5 if self.config.scales else hidden

    @property
    def embedding(self) -> nn.Parameter:
        return self.shared.weight

    @classmethod
    def told(cls, config: Config, names: Collection[str]) -> Config:
        """transformers 5 calls every T5 tied, also one with a head of its own; such a one is not scaled and stores its head."""
        own = config.tie_word_embeddings and not config.scales and "lm_head.weight" in names
        return config.model_copy(update={"tie_word_embeddings": False}) if own else config

    def name_here(self, name: str) -> str | None:
        """Older files store the shared embedding under each of its uses, and a table that the cross-attention never reads."""
        if name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
            return "shared.weight"
        if name.endswith("EncDecAttention.relative_attention_bias.weight"):
            return None
        return super().name_here(name)

    def spread(self, name: str, parameter: nn.Parameter) -> float:
        """T5's own rule: products of unit vectors have unit size, queries are smaller by the root of the head width."""
        config = self.config
        if name == "shared.weight":
            return config.initializer_range
        inputs = config.d_model if name.endswith("relative_attention_bias.weight") else parameter.size(1)
        narrow = config.d_kv if name.endswith(".q.weight") else 1
        return config.initializer_range * (inputs * narrow) ** -0.5

    def new_state(self, batch: int, capacity: int) -> State:
        config = self.config
        return State(
            [
                CrossState(batch, config.num_heads, capacity, config.d_kv, self.activation_dtype, self.embedding.device)
                for _ in range(config.decoder_layers)
            ]
        )

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "d_model": 24, "d_kv": 10, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3,
            "relative_attention_num_buckets": 8, "relative_attention_max_distance": 11, "n_positions": 64,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))
