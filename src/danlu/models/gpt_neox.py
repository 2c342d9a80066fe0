"""GPT-NeoX (Black et al. 2022, arXiv:2204.06745), the shape of Pythia (Biderman et al. 2023, arXiv:2304.01373).

Unlike GPT-2: rotary positions on the first channels of each head only, attention and feed-forward layer side by side
(x + attention(x) + mlp(x), after GPT-J), a head of its own. B rows, T tokens, D width, H heads, K head width.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.models.config import ModelConfig
from danlu.nn.fused_qkv import split_heads
from danlu.nn.gelu import gelu
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import LayerNorm
from danlu.nn.remember import attend_remembered
from danlu.nn.rope import rotate_first, turns
from danlu.nn.state import KeyMemory, State, view


class Attention(nn.Module):
    """x (B, T, D) -> (B, T, D); queries, keys and values come out of one product."""

    def __init__(self, config: "GPTNeoX.Config"):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size, config.attention_bias)
        self.dense = Linear(config.hidden_size, config.hidden_size, config.attention_bias)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], sight: Sight, state: KeyMemory | None) -> Tensor:
        q_BTHK, k_BTHK, v_BTHK = split_heads(self.query_key_value(x), self.heads)
        q_BTHK, k_BTHK = rotate_first(q_BTHK, *rope), rotate_first(k_BTHK, *rope)
        q_BHTK, k_BHTK, v_BHTK = (part.transpose(1, 2) for part in (q_BTHK, k_BTHK, v_BTHK))
        return self.dense(attend_remembered(q_BHTK, k_BHTK, v_BHTK, sight, state).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """x (B, T, D) -> (B, T, D) through a GELU."""

    def __init__(self, config: "GPTNeoX.Config"):
        super().__init__()
        self.act = config.hidden_act
        self.dense_h_to_4h = Linear(config.hidden_size, config.intermediate_size, bias=True)
        self.dense_4h_to_h = Linear(config.intermediate_size, config.hidden_size, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_4h_to_h(gelu(self.dense_h_to_4h(x), self.act))


class Block(nn.Module):
    """Pre-norm layer, (B, T, D) -> (B, T, D): both halves read the same stream, or one after the other."""

    def __init__(self, config: "GPTNeoX.Config"):
        super().__init__()
        self.parallel = config.use_parallel_residual
        self.input_layernorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.post_attention_layernorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attention = Attention(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], sight: Sight, state: KeyMemory | None = None) -> Tensor:
        attended = x + self.attention(self.input_layernorm(x), rope, sight, state)
        return attended + self.mlp(self.post_attention_layernorm(x if self.parallel else attended))


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: "GPTNeoX.Config"):
        super().__init__()
        self.embed_in = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.final_layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)


@MODELS.register
class GPTNeoX(CausalLM):
    """Loads and writes GPTNeoXForCausalLM folders: GPT-NeoX-20B, Pythia."""

    long_rows = True

    writers = ("attention.dense.weight", "dense_4h_to_h.weight")

    class Config(ModelConfig):
        hf_type: ClassVar[str] = "gpt_neox"
        hf_class: ClassVar[str] = "GPTNeoXForCausalLM"
        required: ClassVar[tuple[str, ...]] = (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        )  # fmt: skip
        absent: ClassVar[dict[str, Any]] = {"tie_word_embeddings": False, "max_position_embeddings": 2048}
        harmless: ClassVar[tuple[str, ...]] = ("classifier_dropout",)

        name: Literal["gpt_neox"] = "gpt_neox"  # type: ignore[assignment]  # narrows
        hidden_size: int = Field(256, gt=0)
        """Channels of the residual stream."""
        intermediate_size: int = Field(1024, gt=0)
        """Inner channels of the feed-forward layer."""
        num_hidden_layers: int = Field(6, gt=0)
        """Layers."""
        num_attention_heads: int = Field(4, gt=0)
        """Heads, a divisor of hidden_size."""
        max_position_embeddings: int = Field(512, gt=0)
        """Most tokens a row is made for."""
        rope_theta: float = Field(10_000.0, gt=0)
        """Base of the rotary wavelengths."""
        rotary_pct: float = Field(0.25, gt=0, le=1)
        """Share of a head's channels that carry positions, rounded down to whole channels, which must be even."""
        use_parallel_residual: bool = True
        """Attention and feed-forward layer read the same stream; off: one after the other."""
        hidden_act: Literal["gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh"] = "gelu"
        """Nonlinearity of the feed-forward layer: the exact GELU, or its tanh form."""
        layer_norm_eps: float = Field(1e-5, gt=0)
        """Added to the variance."""
        attention_bias: bool = True
        """Biases in the attention projections."""

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(f"hidden_size {self.hidden_size} does not divide among {self.num_attention_heads} heads")
            if self.rotary_width < 2 or self.rotary_width % 2:
                raise ValueError(
                    f"rotary_pct {self.rotary_pct} turns {self.rotary_width} channels of each head; it takes an even number"
                )
            return self

        @property
        def rotary_width(self) -> int:
            """Channels of a head that carry positions."""
            return int(self.hidden_size // self.num_attention_heads * self.rotary_pct)

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """Two matrices of four times the width weigh as much as the three of a gated layer that the budget thinks of."""
            return super().sized(width=width, inner=4 * width, layers=layers, heads=heads, context=context)

        @classmethod
        def read_rope(cls, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
            """Rotary settings of transformers 5 (`rope_parameters`) and of earlier ones (`rotary_pct`, `rotary_emb_base`)."""
            rope = {"rope_theta": found.pop("rotary_emb_base", None), "partial_rotary_factor": found.pop("rotary_pct", None)}
            for field in ("rope_scaling", "rope_parameters"):
                rope |= {key: value for key, value in (found.pop(field, None) or {}).items() if value is not None}
            theta, share = rope.pop("rope_theta"), rope.pop("partial_rotary_factor")
            kind = rope.pop("rope_type", rope.pop("type", "default"))
            rope.pop("type", None)
            found |= {} if theta is None else {"rope_theta": theta}
            found |= {} if share is None else {"rotary_pct": share}
            wrong = kind != "default" or rope
            return found, [f"rope_parameters: {dict(rope, rope_type=kind)} (computed here: rope_type 'default')"] if wrong else []

        def to_hf(self) -> dict[str, Any]:
            own = super().to_hf()
            theta = own.pop("rope_theta")
            rope = {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": self.rotary_pct}
            return {**own, "rope_parameters": rope, "rotary_emb_base": theta}

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.gpt_neox = Trunk(config)
        if not config.tie_word_embeddings:
            self.embed_out = Linear(config.hidden_size, config.vocab_size)
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
        rope = turns(sight.at(ids_BT.device), self.config.rotary_width, self.config.rope_theta)
        x = self.gpt_neox.embed_in(ids_BT)
        for index, layer in enumerate(self.gpt_neox.layers):
            x = layer(x, rope, sight, state.layers[index] if state else None)
        if state:
            state.length += sight.tokens
        return self.gpt_neox.final_layer_norm(x)

    @property
    def embedding(self) -> nn.Parameter:
        return self.gpt_neox.embed_in.weight

    @property
    def output_weight(self) -> Tensor:
        return self.embedding if self.config.tie_word_embeddings else self.embed_out.weight

    def name_here(self, name: str) -> str | None:
        """Early checkpoints store masks and frequencies beside the weights; some later ones call the head lm_head."""
        if name.endswith((".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")):
            return None
        if name in ("embed_out.weight", "lm_head.weight"):
            return "gpt_neox.embed_in.weight" if self.config.tie_word_embeddings else "embed_out.weight"
        return name

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
            "max_position_embeddings": 64, "rotary_pct": 0.5, "tie_word_embeddings": False, "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))
