"""What BERT and RoBERTa share: learned positions and segments, post-norm layers that see both ways.

A family says how positions are counted and what its head is called. B rows, T tokens, D width, H heads, K head width.
"""

import re
from typing import Any, ClassVar, Self

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, arange, nn, zeros_like

from danlu.models.base import MaskedLM
from danlu.models.config import ModelConfig
from danlu.nn.attention import attend
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight, positions
from danlu.nn.norm import LayerNorm


class EncoderConfig(ModelConfig):
    """Sizes and constants of a post-norm encoder."""

    ties: ClassVar[bool] = True
    required: ClassVar[tuple[str, ...]] = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    )  # fmt: skip
    fixed: ClassVar[dict[str, Any]] = {
        "hidden_act": ("gelu",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
        "position_embedding_type": ("absolute", None),
    }
    harmless: ClassVar[tuple[str, ...]] = (
        "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "directionality", "pooler_fc_size",
        "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type",
    )  # fmt: skip

    hidden_size: int = Field(256, gt=0)
    """Channels of the residual stream."""
    intermediate_size: int = Field(1024, gt=0)
    """Inner channels of the feed-forward layer."""
    num_hidden_layers: int = Field(6, gt=0)
    """Layers."""
    num_attention_heads: int = Field(4, gt=0)
    """Heads, a divisor of hidden_size."""
    max_position_embeddings: int = Field(512, gt=0)
    """Learned position vectors."""
    type_vocab_size: int = Field(2, gt=0)
    """Kinds of segments, such as question and answer; a token's kind is 0 unless it is given."""
    layer_norm_eps: float = Field(1e-12, gt=0)
    """Added to the variance."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} does not divide among {self.num_attention_heads} heads")
        if not self.tie_word_embeddings:
            raise ValueError(f"a {self.hf_type} head shares the embedding; tie_word_embeddings false is not computed here")
        return self

    @classmethod
    def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
        """Half as many inner channels again: two matrices then hold what a budget counts for the three of a gated layer."""
        return super().sized(width=width, inner=inner * 3 // 2, layers=layers, heads=heads, context=context)


class Embeddings(nn.Module):
    """ids, places and segments (B, T) -> (B, T, D): three looked-up vectors, added and normed."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.word_embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, ids_BT: Tensor, at: Tensor, types_BT: Tensor) -> Tensor:
        x = self.word_embeddings(ids_BT) + self.token_type_embeddings(types_BT) + self.position_embeddings(at)
        return self.LayerNorm(x)


class Projections(nn.Module):
    """x (B, T, D) -> (B, T, D), every head's mixture side by side."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = Linear(config.hidden_size, config.hidden_size, bias=True)
        self.key = Linear(config.hidden_size, config.hidden_size, bias=True)
        self.value = Linear(config.hidden_size, config.hidden_size, bias=True)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        q_BHTK, k_BHTK, v_BHTK = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        return attend(q_BHTK, k_BHTK, v_BHTK, sight).transpose(1, 2).flatten(2)


class Join(nn.Module):
    """The end of a sub-layer: a product, added to the stream `x`, then the norm over both (post-norm, arXiv:1706.03762)."""

    def __init__(self, config: EncoderConfig, inputs: int):
        super().__init__()
        self.dense = Linear(inputs, config.hidden_size, bias=True)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, inner: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dense(inner))


class Attention(nn.Module):
    """x (B, T, D) -> (B, T, D), residual and norm included."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.self = Projections(config)
        self.output = Join(config, config.hidden_size)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        return self.output(self.self(x, sight), x)


class Widen(nn.Module):
    """x (..., D) -> (..., F) through GELU, in its exact form."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    """Post-norm layer, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Widen(config)
        self.output = Join(config, config.intermediate_size)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        x = self.attention(x, sight)
        return self.output(self.intermediate(x), x)


class Stack(nn.Module):
    """The layers, under the name that checkpoints use."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))


class Body(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Stack(config)


class Encoder(MaskedLM):
    """A family of the BERT lineage: a subclass has its `body` and says how places are counted and what its head computes."""

    long_rows = True

    @property
    def body(self) -> Body:
        """All but the head."""
        found: Body = getattr(self, self.config.hf_type)
        return found

    def places(self, ids_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
        """Which position vector each token takes: its place in its document, (T,) or (B, T)."""
        return arange(ids_BT.size(1), device=ids_BT.device) if documents_BT is None else positions(documents_BT)

    def hidden(self, ids_BT: Tensor, *, documents_BT: Tensor | None = None, types_BT: Tensor | None = None) -> Tensor:
        """types_BT: (B, T), which kind of segment a token belongs to; left out, 0. Raises ValueError for too long rows."""
        at = self.places(ids_BT, documents_BT)
        if int(at.max()) >= self.config.max_position_embeddings:
            raise ValueError(
                f"{ids_BT.size(1)} tokens in a row, but this model has positions for {self.config.context}: "
                f"--model.max_position_embeddings makes more"
            )
        sight = Sight(ids_BT.size(1), documents_BT=documents_BT, causal=False)
        x = self.body.embeddings(ids_BT, at, zeros_like(ids_BT) if types_BT is None else types_BT)
        for layer in self.body.encoder.layer:
            x = layer(x, sight)
        return x

    @property
    def embedding(self) -> nn.Parameter:
        return self.body.embeddings.word_embeddings.weight

    @property
    def output_weight(self) -> Tensor:
        return self.embedding

    def name_here(self, name: str) -> str | None:
        """Early checkpoints call a norm's vectors gamma and beta. What only a pooled sentence used is left out."""
        if name.endswith("embeddings.position_ids") or ".pooler." in name or name.startswith("cls.seq_relationship."):
            return None
        return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
            "max_position_embeddings": 66, "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))  # type: ignore[arg-type]
