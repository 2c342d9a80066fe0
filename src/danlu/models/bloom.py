"""BLOOM (BigScience 2022, arXiv:2211.05100): linear biases on distance (ALiBi) in place of positions, GELU, layer norms.

Unlike GPT-2: no position vectors, so that longer texts than those of training need nothing new; a layer norm right after
the embedding, which kept training stable (section 3.2). B rows, T tokens, D width, H heads, K head width.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.models.config import ModelConfig
from danlu.nn.alibi import alibi, slopes
from danlu.nn.fused_qkv import split_heads
from danlu.nn.gelu import gelu
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import LayerNorm
from danlu.nn.remember import attend_remembered
from danlu.nn.state import KeyMemory, State, view


class Attention(nn.Module):
    """x (B, T, D) -> (B, T, D); `bias` (H, T, S) lowers the scores of distant tokens."""

    def __init__(self, config: "Bloom.Config"):
        super().__init__()
        self.heads = config.n_head
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size, bias=True)
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=True)

    def forward(self, x: Tensor, bias: Tensor, sight: Sight, state: KeyMemory | None) -> Tensor:
        q_BHTK, k_BHTK, v_BHTK = (part.transpose(1, 2) for part in split_heads(self.query_key_value(x), self.heads))
        return self.dense(attend_remembered(q_BHTK, k_BHTK, v_BHTK, sight, state, bias=bias).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """x (B, T, D) -> (B, T, D) through four times the width and a GELU in its tanh form."""

    def __init__(self, width: int):
        super().__init__()
        self.dense_h_to_4h = Linear(width, 4 * width, bias=True)
        self.dense_4h_to_h = Linear(4 * width, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_4h_to_h(gelu(self.dense_h_to_4h(x), "gelu_new"))


class Block(nn.Module):
    """Pre-norm layer, (B, T, D) -> (B, T, D); what is carried on is the stream, or the normed stream."""

    def __init__(self, config: "Bloom.Config"):
        super().__init__()
        self.carries_normed = config.apply_residual_connection_post_layernorm
        self.input_layernorm = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.self_attention = Attention(config)
        self.post_attention_layernorm = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = MLP(config.hidden_size)

    def forward(self, x: Tensor, bias: Tensor, sight: Sight, state: KeyMemory | None = None) -> Tensor:
        normed = self.input_layernorm(x)
        x = (normed if self.carries_normed else x) + self.self_attention(normed, bias, sight, state)
        normed = self.post_attention_layernorm(x)
        return (normed if self.carries_normed else x) + self.mlp(normed)


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: "Bloom.Config"):
        super().__init__()
        self.word_embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.word_embeddings_layernorm = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.hidden_size, config.layer_norm_epsilon)


@MODELS.register
class Bloom(CausalLM):
    """Loads and writes BloomForCausalLM folders."""

    writers = ("self_attention.dense.weight", "dense_4h_to_h.weight")

    class Config(ModelConfig):
        hf_type: ClassVar[str] = "bloom"
        hf_class: ClassVar[str] = "BloomForCausalLM"
        sizes: ClassVar[dict[str, str]] = {
            "width": "hidden_size", "layers": "n_layer", "heads": "n_head", "context": "seq_length",
        }  # fmt: skip
        ties: ClassVar[bool] = True
        required: ClassVar[tuple[str, ...]] = ("vocab_size", "hidden_size", "n_layer", "n_head")
        absent: ClassVar[dict[str, Any]] = {"seq_length": 2048}
        fixed: ClassVar[dict[str, Any]] = {"n_inner": (None,)}
        harmless: ClassVar[tuple[str, ...]] = (
            "slow_but_exact", "attention_softmax_in_fp32", "masked_softmax_fusion", "bias_dropout_fusion", "offset_alibi",
            "skip_bias_add", "skip_bias_add_qkv", "unk_token_id",  # how its first implementation ran
        )  # fmt: skip

        name: Literal["bloom"] = "bloom"  # type: ignore[assignment]  # narrows
        hidden_size: int = Field(256, gt=0)
        """Channels of the residual stream; the feed-forward layer has four times as many."""
        n_layer: int = Field(6, gt=0)
        """Layers."""
        n_head: int = Field(4, gt=0)
        """Heads, a divisor of hidden_size."""
        seq_length: int = Field(512, gt=0)
        """Tokens of a row in training; distances need no position vectors, so longer rows are computed too."""
        layer_norm_epsilon: float = Field(1e-5, gt=0)
        """Added to the variance."""
        apply_residual_connection_post_layernorm: bool = False
        """Each half of a layer adds to the normed stream in place of the stream."""

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.hidden_size % self.n_head:
                raise ValueError(f"hidden_size {self.hidden_size} does not divide among {self.n_head} heads")
            return self

        @classmethod
        def from_hf(cls, found: dict[str, Any]) -> Self:
            """The first checkpoints call the sizes n_embed, num_attention_heads and num_hidden_layers."""
            old = {"n_embed": "hidden_size", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
            return super().from_hf({old.get(key, key): value for key, value in found.items() if old.get(key) not in found})

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.transformer = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.initialise(seed)

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        sight = view(ids_BT, state, documents_BT, prefix_BT)
        bias_HTS = alibi(slopes(self.config.n_head).to(ids_BT.device), sight)
        x = self.transformer.word_embeddings_layernorm(self.transformer.word_embeddings(ids_BT))
        for index, layer in enumerate(self.transformer.h):
            x = layer(x, bias_HTS, sight, state.layers[index] if state else None)
        if state:
            state.length += sight.tokens
        return self.transformer.ln_f(x)

    @property
    def embedding(self) -> nn.Parameter:
        return self.transformer.word_embeddings.weight

    def name_here(self, name: str) -> str | None:
        """Published checkpoints leave out the prefix."""
        bare = name.startswith(("word_embeddings.", "word_embeddings_layernorm.", "h.", "ln_f."))
        return super().name_here(f"transformer.{name}" if bare else name)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "n_layer": 2, "n_head": 3, "seq_length": 64, "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))
