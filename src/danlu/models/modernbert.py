"""ModernBERT (Warner et al. 2024, arXiv:2412.13663): an encoder with what decoders have learned since BERT.

Beside BERT: rotary positions in place of learned ones, norms before each sub-layer, a gated feed-forward layer (GeGLU,
arXiv:2002.05202), no biases but the last one, and only every third layer sees the whole document; the others look half of
`local_attention` tokens to each side, with wavelengths of their own. The default family of masked training.
B rows, T tokens, D width, H heads, K head width, F inner channels, V vocabulary.
"""

from typing import Any, ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.base import MaskedLM
from danlu.models.config import ModelConfig
from danlu.nn.attention import attend
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import LayerNorm
from danlu.nn.rope import norm_rotate, turns

Turn = tuple[Tensor, Tensor]
_FULL, _SLIDING = "full_attention", "sliding_attention"


class ModernBERTConfig(ModelConfig):
    """Sizes and constants."""

    ties: ClassVar[bool] = True
    required: ClassVar[tuple[str, ...]] = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    )  # fmt: skip
    absent: ClassVar[dict[str, Any]] = {
        "max_position_embeddings": 8192, "global_rope_theta": 160_000.0, "bos_token_id": 50281, "eos_token_id": 50282,
        "pad_token_id": 50283,
    }  # fmt: skip
    fixed: ClassVar[dict[str, Any]] = {"hidden_activation": ("gelu",), "classifier_activation": ("gelu",)}
    harmless: ClassVar[tuple[str, ...]] = (
        "initializer_cutoff_factor", "cls_token_id", "sep_token_id", "embedding_dropout", "mlp_dropout", "classifier_dropout",
        "classifier_pooling", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index", "reference_compile",
        "repad_logits_with_grad", "position_embedding_type", "layer_norm_eps",
    )  # fmt: skip

    hidden_size: int = Field(256, gt=0)
    """Channels of the residual stream."""
    intermediate_size: int = Field(704, gt=0)
    """Inner channels of the feed-forward layer."""
    num_hidden_layers: int = Field(6, gt=0)
    """Layers."""
    num_attention_heads: int = Field(4, gt=0)
    """Heads, a divisor of hidden_size."""
    max_position_embeddings: int = Field(512, gt=0)
    """Most tokens a row is made for."""
    local_attention: int = Field(128, ge=2)
    """Tokens in sight of a local layer: half of them to each side."""
    global_attn_every_n_layers: int = Field(3, gt=0)
    """The first layer and every so many after it see the whole document."""
    layer_types: list[Literal["full_attention", "sliding_attention"]] | None = None
    """What each layer sees; null: as global_attn_every_n_layers says."""
    global_rope_theta: float = Field(10_000.0, gt=0)
    """Base of the rotary wavelengths of layers that see everything."""
    local_rope_theta: float = Field(10_000.0, gt=0)
    """Base of the rotary wavelengths of local layers."""
    norm_eps: float = Field(1e-5, gt=0)
    """Added to the variance."""
    norm_bias: bool = False
    """Biases in the norms."""
    attention_bias: bool = False
    """Biases in the attention projections."""
    mlp_bias: bool = False
    """Biases in the feed-forward layer."""
    classifier_bias: bool = False
    """A bias in the head's transform."""
    decoder_bias: bool = True
    """A bias for each token's logit."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} does not divide among {self.num_attention_heads} heads")
        if self.head_width % 2:
            raise ValueError(f"rotary positions need heads of even width, not {self.head_width}")
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(f"layer_types names {len(self.layer_types)} layers of {self.num_hidden_layers}")
        return self

    @property
    def kinds(self) -> list[str]:
        """What each layer sees, resolved."""
        every = self.global_attn_every_n_layers
        return list(self.layer_types or [_SLIDING if at % every else _FULL for at in range(self.num_hidden_layers)])

    @property
    def thetas(self) -> dict[str, float]:
        """Base of the wavelengths of each kind of layer."""
        return {_FULL: self.global_rope_theta, _SLIDING: self.local_rope_theta}

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def read_rope(cls, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Two bases: in `rope_parameters` by kind of layer (transformers 5), or as two numbers (earlier)."""
        wrong = []
        for kind, field in ((_FULL, "global_rope_theta"), (_SLIDING, "local_rope_theta")):
            rope = dict((found.get("rope_parameters") or {}).get(kind) or {})
            if (theta := rope.pop("rope_theta", None)) is not None:
                found[field] = theta
            if rope.pop("rope_type", "default") != "default" or rope:
                wrong.append(f"rope_parameters: {found['rope_parameters'][kind]} of {kind} (computed here: rope_type 'default')")
        strange = sorted(set(found.pop("rope_parameters", None) or {}) - {_FULL, _SLIDING})
        wrong += [f"rope_parameters: {name!r} (computed here: {_FULL}, {_SLIDING})" for name in strange]
        if found.get("rope_scaling") is None:
            found.pop("rope_scaling", None)
        return found, wrong

    def to_hf(self) -> dict[str, Any]:
        """Both ways of saying what a layer sees, for transformers of either age; its own special tokens are of its vocabulary."""
        rope = {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in self.thetas.items()}
        end = self.eos_token_id if isinstance(self.eos_token_id, int) else None
        special = {"cls_token_id": self.bos_token_id, "sep_token_id": end}
        return {**super().to_hf(), **special, "layer_types": self.kinds, "rope_parameters": rope}


class Attention(nn.Module):
    """x (B, T, D) -> (B, T, D); queries, keys and values come out of one product."""

    def __init__(self, config: ModernBERTConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.Wqkv = Linear(config.hidden_size, 3 * config.hidden_size, config.attention_bias)
        self.Wo = Linear(config.hidden_size, config.hidden_size, config.attention_bias)

    def forward(self, x: Tensor, turn: Turn, sight: Sight) -> Tensor:
        q_BTHK, k_BTHK, v_BTHK = (part.unflatten(-1, (self.heads, -1)) for part in self.Wqkv(x).chunk(3, dim=-1))
        q_BTHK, k_BTHK = norm_rotate(q_BTHK, None, 0.0, *turn), norm_rotate(k_BTHK, None, 0.0, *turn)
        mixed_BHTK = attend(q_BTHK.transpose(1, 2), k_BTHK.transpose(1, 2), v_BTHK.transpose(1, 2), sight)
        return self.Wo(mixed_BHTK.transpose(1, 2).flatten(2))


class GeGLU(nn.Module):
    """x (..., D) -> (..., D): GELU of one half of the inner channels times the other half."""

    def __init__(self, config: ModernBERTConfig):
        super().__init__()
        self.Wi = Linear(config.hidden_size, 2 * config.intermediate_size, config.mlp_bias)
        self.Wo = Linear(config.intermediate_size, config.hidden_size, config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        bent, gate = self.Wi(x).chunk(2, dim=-1)
        return self.Wo(F.gelu(bent) * gate)


def norm(config: ModernBERTConfig) -> LayerNorm:
    """A norm of this family."""
    return LayerNorm(config.hidden_size, config.norm_eps, config.norm_bias)


class Layer(nn.Module):
    """Pre-norm layer, (B, T, D) -> (B, T, D); the first has no norm before attention: the embedding is normed already."""

    def __init__(self, config: ModernBERTConfig, first: bool):
        super().__init__()
        self.attn_norm = nn.Identity() if first else norm(config)
        self.attn = Attention(config)
        self.mlp_norm = norm(config)
        self.mlp = GeGLU(config)

    def forward(self, x: Tensor, turn: Turn, sight: Sight) -> Tensor:
        x = x + self.attn(self.attn_norm(x), turn, sight)
        return x + self.mlp(self.mlp_norm(x))


class Embeddings(nn.Module):
    """ids (B, T) -> (B, T, D), normed."""

    def __init__(self, config: ModernBERTConfig):
        super().__init__()
        self.tok_embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.norm = norm(config)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.norm(self.tok_embeddings(ids_BT))


class Body(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: ModernBERTConfig):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config, first=at == 0) for at in range(config.num_hidden_layers))
        self.final_norm = norm(config)


class Head(nn.Module):
    """x (..., D) -> (..., D) before the product with the embedding."""

    def __init__(self, config: ModernBERTConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size, config.classifier_bias)
        self.norm = norm(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(x)))


class Decoder(nn.Module):
    """The last product's own parameters: no matrix where the embedding serves, no bias where there is none."""

    def __init__(self, config: ModernBERTConfig):
        super().__init__()
        if not config.tie_word_embeddings:
            self.weight = Linear(config.hidden_size, config.vocab_size).weight
        if config.decoder_bias:
            self.bias = Linear(1, config.vocab_size, bias=True).bias


@MODELS.register
class ModernBERT(MaskedLM):
    """Loads and writes ModernBertForMaskedLM folders."""

    long_rows = True

    writers = ("Wo.weight", "head.dense.weight", "decoder.weight")  # the head's start smaller too

    class Config(ModernBERTConfig):
        hf_type: ClassVar[str] = "modernbert"
        hf_class: ClassVar[str] = "ModernBertForMaskedLM"

        name: Literal["modernbert"] = "modernbert"  # type: ignore[assignment]  # narrows

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.model = Body(config)
        self.head = Head(config)
        self.decoder = Decoder(config)
        self.initialise(seed)

    def hidden(self, ids_BT: Tensor, *, documents_BT: Tensor | None = None) -> Tensor:
        config, everything = self.config, Sight(ids_BT.size(1), documents_BT=documents_BT, causal=False)
        sights = {_FULL: everything, _SLIDING: everything.within(config.local_attention // 2 + 1)}
        at = everything.at(ids_BT.device)
        turn = {kind: turns(at, config.head_width, theta) for kind, theta in config.thetas.items()}
        x = self.model.embeddings(ids_BT)
        for layer, kind in zip(self.model.layers, config.kinds, strict=True):
            x = layer(x, turn[kind], sights[kind])
        return self.model.final_norm(x)

    def transformed(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    @property
    def embedding(self) -> nn.Parameter:
        return self.model.embeddings.tok_embeddings.weight

    @property
    def output_weight(self) -> Tensor:
        return self.embedding if self.config.tie_word_embeddings else self.decoder.weight

    @property
    def output_bias(self) -> Tensor | None:
        return self.decoder.bias if self.config.decoder_bias else None

    def name_here(self, name: str) -> str | None:
        """A tied decoder stored beside the embedding is the same once more."""
        if name == "decoder.weight" and self.config.tie_word_embeddings:
            return "model.embeddings.tok_embeddings.weight"
        return name

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 6,
            "max_position_embeddings": 64, "local_attention": 6, "global_attn_every_n_layers": 2, "local_rope_theta": 500.0,
            "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))
