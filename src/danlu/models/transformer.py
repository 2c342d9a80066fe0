"""What BART and Marian share: the encoder-decoder of "Attention is all you need" (Vaswani et al. 2017, arXiv:1706.03762).

Each layer's result is added to the stream and the sum is normed (post-norm), so the stream itself is what a norm hands on and
stays in its own type. A family says how words and places become the first vectors (bart.py, marian.py).

B rows, T tokens written, S tokens of the source, D width, H heads, K head width, F inner channels.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from danlu.models.base import Seq2SeqLM
from danlu.models.config import Seq2SeqConfig
from danlu.nn.attention import attend
from danlu.nn.cross import Across, heads, joined
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import LayerNorm
from danlu.nn.state import CrossState, LayerState, State

EPS = 1e-5
"""Added to the variance; no checkpoint says another."""
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "swish": F.silu}


class TransformerConfig(Seq2SeqConfig):
    """Sizes of a post-norm encoder-decoder, in BART's names."""

    sizes: ClassVar[dict[str, str]] = {
        "width": "d_model", "inner": "encoder_ffn_dim", "layers": "encoder_layers", "heads": "encoder_attention_heads",
        "context": "max_position_embeddings",
    }  # fmt: skip
    ties: ClassVar[bool] = True
    required: ClassVar[tuple[str, ...]] = (
        "vocab_size", "d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
        "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings",
    )  # fmt: skip
    fixed: ClassVar[dict[str, Any]] = {
        **Seq2SeqConfig.fixed, "add_bias_logits": (False,), "add_final_layer_norm": (False,), "normalize_before": (False,),
    }  # fmt: skip

    tie_word_embeddings: Literal[True] = True  # type: ignore[assignment]  # narrows
    """One matrix reads the source, reads what is written and predicts: these families have no other form."""
    d_model: int = Field(256, gt=0)
    """Channels of the residual stream."""
    encoder_layers: int = Field(4, gt=0)
    """Layers of the encoder."""
    decoder_layers: int | None = Field(None, gt=0)
    """Layers of the decoder; null: as many as the encoder."""
    encoder_attention_heads: int = Field(4, gt=0)
    """Heads of the encoder, a divisor of d_model."""
    decoder_attention_heads: int | None = Field(None, gt=0)
    """Heads of the decoder, a divisor of d_model; null: as many as the encoder."""
    encoder_ffn_dim: int = Field(1024, gt=0)
    """Inner channels of the encoder's feed-forward layers."""
    decoder_ffn_dim: int | None = Field(None, gt=0)
    """Inner channels of the decoder's; null: as many as the encoder's."""
    max_position_embeddings: int = Field(512, gt=0)
    """Most tokens of a source, or of an answer."""
    activation_function: Literal["relu", "gelu", "silu", "swish"] = "relu"
    """What bends the feed-forward layer; swish is another name of silu."""
    scale_embedding: bool = False
    """Multiply the vectors of the tokens by the root of d_model."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for side, count in (("encoder", self.encoder_attention_heads), ("decoder", self.decoder_heads)):
            if self.d_model % count:
                raise ValueError(f"d_model {self.d_model} does not divide among the {count} heads of the {side}")
        return self

    @property
    def decoder_depth(self) -> int:
        """Layers of the decoder, resolved."""
        return self.decoder_layers or self.encoder_layers

    @property
    def decoder_heads(self) -> int:
        """Heads of the decoder, resolved."""
        return self.decoder_attention_heads or self.encoder_attention_heads

    @property
    def decoder_inner(self) -> int:
        """Inner channels of the decoder, resolved."""
        return self.decoder_ffn_dim or self.encoder_ffn_dim

    @property
    def depth(self) -> int:
        return self.encoder_layers + self.decoder_depth

    @classmethod
    def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
        """Half of the layers read, half write; without a gate the inner layer is wider by half."""
        wide = -(-3 * inner // 2 // 32) * 32
        return super().sized(width=width, inner=wide, layers=-(-layers // 2), heads=heads, context=context)

    def to_hf(self) -> dict[str, Any]:
        resolved = {"decoder_layers": self.decoder_depth, "decoder_attention_heads": self.decoder_heads,
                    "decoder_ffn_dim": self.decoder_inner, "init_std": self.initializer_range}  # fmt: skip
        return {**super().to_hf(), **resolved}


class StreamNorm(LayerNorm):
    """A norm whose result is the stream: it is not rounded to the type of the products."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(
            x, self.weight.shape, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype), EPS
        )


class Attention(nn.Module):
    """Four matrices with biases; x (B, T, D) -> (B, T, D)."""

    compute_dtype: torch.dtype | None = None

    def __init__(self, width: int, count: int):
        super().__init__()
        self.heads = count
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(width, width, bias=True) for _ in range(4))

    def forward(self, x: Tensor, sight: Sight, state: LayerState | None = None) -> Tensor:
        """Among the tokens themselves."""
        x = x.to(self.compute_dtype or x.dtype)
        q, k, v = (heads(part(x), self.heads) for part in (self.q_proj, self.k_proj, self.v_proj))
        if state is not None:
            k, v = state.append(sight.start, k, v)
        return self.out_proj(joined(attend(q, k, v, sight)))

    def across(self, x: Tensor, view: Across, state: CrossState | None) -> Tensor:
        """To the source."""
        x = x.to(self.compute_dtype or x.dtype)
        k, v = view.keys_values(state, lambda source: self.of_source(source.to(x.dtype)))
        return self.out_proj(joined(view.attend(heads(self.q_proj(x), self.heads), k, v)))

    def of_source(self, source_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, (B, H, S, K)."""
        return heads(self.k_proj(source_BSD), self.heads), heads(self.v_proj(source_BSD), self.heads)


class Layer(nn.Module):
    """What both kinds of layer have: attention among themselves, then the feed-forward layer, each added and normed."""

    compute_dtype: torch.dtype | None = None

    def __init__(self, config: TransformerConfig, count: int, inner: int):
        super().__init__()
        width = config.d_model
        self.bend = ACTIVATIONS[config.activation_function]
        self.self_attn = Attention(width, count)
        self.self_attn_layer_norm = StreamNorm(width, EPS)
        self.fc1 = Linear(width, inner, bias=True)
        self.fc2 = Linear(inner, width, bias=True)
        self.final_layer_norm = StreamNorm(width, EPS)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The last part of a layer."""
        inner = self.bend(self.fc1(x.to(self.compute_dtype or x.dtype)))
        return self.final_layer_norm(x + self.fc2(inner))


class EncoderLayer(Layer):
    """(B, S, D) -> (B, S, D)."""

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, sight))
        return self.feed_forward(x)


class DecoderLayer(Layer):
    """(B, T, D) -> (B, T, D), looking at the source in between."""

    def __init__(self, config: TransformerConfig, count: int, inner: int):
        super().__init__(config, count, inner)
        self.encoder_attn = Attention(config.d_model, count)
        self.encoder_attn_layer_norm = StreamNorm(config.d_model, EPS)

    def forward(self, x: Tensor, sight: Sight, view: Across, state: CrossState | None) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, sight, state))
        x = self.encoder_attn_layer_norm(x + self.encoder_attn.across(x, view, state))
        return self.feed_forward(x)


class Stack(nn.Module):
    """One side: its layers, under the names that checkpoints use; a family may add tables and norms of its own."""

    def __init__(self, config: TransformerConfig, kind: type[Layer], layers: int, count: int, inner: int):
        super().__init__()
        self.layers = nn.ModuleList(kind(config, count, inner) for _ in range(layers))


class Trunk(nn.Module):
    """All but the head."""

    def __init__(self, config: TransformerConfig, encoder: Stack, decoder: Stack):
        super().__init__()
        self.shared = Embedding(config.vocab_size, config.d_model)
        self.encoder, self.decoder = encoder, decoder


class Transformer(Seq2SeqLM):
    """A family of the original encoder-decoder; `places` is what a subclass writes."""

    final_logits_bias: Tensor

    def __init__(self, config: TransformerConfig, seed: int = 0):
        super().__init__(config)
        encoder = self.stack(config, EncoderLayer, config.encoder_layers, config.encoder_attention_heads, config.encoder_ffn_dim)
        decoder = self.stack(config, DecoderLayer, config.decoder_depth, config.decoder_heads, config.decoder_inner)
        self.model = Trunk(config, encoder, decoder)
        self.register_buffer("final_logits_bias", torch.zeros(1, config.vocab_size))
        self.initialise(seed)

    @classmethod
    def stack(cls, config: Any, kind: type[Layer], layers: int, count: int, inner: int) -> Stack:
        """One side of this family."""
        return Stack(config, kind, layers, count, inner)

    @abstractmethod
    def places(self, side: Stack, x: Tensor, at: Tensor) -> Tensor:
        """The first vectors of a side: those of the words, x (B, T, D), and of their places in their document, (T) or (B, T)."""

    def encode(self, source_BS: Tensor, *, documents_BS: Tensor | None = None) -> Tensor:
        sight = Sight(source_BS.size(1), 0, documents_BS, causal=False)
        x = self.begin(self.model.encoder, source_BS, sight)
        for layer in self.model.encoder.layers:
            x = layer(x, sight)
        return x

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
        view = Across.of(source_BSD, documents_BT, source_documents_BS, state)
        x = self.begin(self.model.decoder, ids_BT, sight)
        for index, layer in enumerate(self.model.decoder.layers):
            x = layer(x, sight, view, state.layers[index] if state else None)
        if state:
            state.length += sight.tokens
        return x

    def begin(self, side: Stack, ids_BT: Tensor, sight: Sight) -> Tensor:
        """Words and places. Raises ValueError for a document longer than the places that this model has."""
        at = sight.at(ids_BT.device)
        if sight.start + sight.tokens > self.config.context and (longest := int(at.max()) + 1) > self.config.context:
            raise ValueError(f"{longest} tokens in a row, but this model has {self.config.context} positions")
        scale = self.config.d_model**0.5 if self.config.scale_embedding else 1.0
        return self.places(side, self.model.shared(ids_BT) * scale, at)

    def logits(self, hidden: Tensor) -> Tensor:
        x = hidden.to(self.compute_dtype or hidden.dtype)
        return super().logits(x) + self.final_logits_bias[0].to(x.dtype)

    def to_head(self, hidden_ND: Tensor) -> tuple[Tensor, dict[str, Any]]:
        x, bias = hidden_ND.to(self.compute_dtype or hidden_ND.dtype), self.final_logits_bias[0]
        return x, {"bias_V": bias if bool(bias.any()) else None}

    @property
    def embedding(self) -> nn.Parameter:
        return self.model.shared.weight

    def name_here(self, name: str) -> str | None:
        """Older files store the one matrix under each of its uses."""
        shared = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
        return "model.shared.weight" if name in shared else name

    def spread(self, name: str, parameter: nn.Parameter) -> float:
        """One width for all: post-norm brings every layer's sum back to unit size."""
        return self.config.initializer_range

    def new_state(self, batch: int, capacity: int) -> State:
        config = self.config
        count, width = config.decoder_heads, config.d_model // config.decoder_heads
        return State(
            [
                CrossState(batch, count, capacity, width, self.activation_dtype, self.embedding.device)
                for _ in range(config.decoder_depth)
            ]
        )

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
            "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 34, "max_position_embeddings": 64,
            "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))  # type: ignore[arg-type]
