"""GPT-2 (Radford et al. 2019): learned positions, layer norms with biases, GELU; matrices lie transposed on disk.

B rows, T tokens, D width, H heads, K head width.
"""

from typing import Any, ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.models.config import ModelConfig
from danlu.nn.linear import Embedding, Linear, Transposed
from danlu.nn.mask import Sight
from danlu.nn.norm import LayerNorm
from danlu.nn.remember import attend_remembered
from danlu.nn.state import LayerState, State, view


class Attention(nn.Module):
    """x (B, T, D) -> (B, T, D); queries, keys and values come out of one product."""

    def __init__(self, config: "GPT2.Config"):
        super().__init__()
        self.heads = config.n_head
        self.c_attn = Transposed(config.n_embd, 3 * config.n_embd)
        self.c_proj = Transposed(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, sight: Sight, state: LayerState | None) -> Tensor:
        q_BHTK, k_BHTK, v_BHTK = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, dim=-1)
        )
        return self.c_proj(attend_remembered(q_BHTK, k_BHTK, v_BHTK, sight, state).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """x (B, T, D) -> (B, T, D) through a GELU in its tanh form."""

    def __init__(self, config: "GPT2.Config"):
        super().__init__()
        self.c_fc = Transposed(config.n_embd, config.inner)
        self.c_proj = Transposed(config.inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """Pre-norm layer, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: "GPT2.Config"):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, sight: Sight, state: LayerState | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), sight, state)
        return x + self.mlp(self.ln_2(x))


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: "GPT2.Config"):
        super().__init__()
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)


@MODELS.register
class GPT2(CausalLM):
    """Loads and writes GPT2LMHeadModel folders."""

    long_rows = True

    class Config(ModelConfig):
        hf_type: ClassVar[str] = "gpt2"
        hf_class: ClassVar[str] = "GPT2LMHeadModel"
        sizes: ClassVar[dict[str, str]] = {
            "width": "n_embd", "inner": "n_inner", "layers": "n_layer", "heads": "n_head", "context": "n_positions",
        }  # fmt: skip
        ties: ClassVar[bool] = True
        required: ClassVar[tuple[str, ...]] = ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions")
        fixed: ClassVar[dict[str, Any]] = {
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "reorder_and_upcast_attn": (False,),
            "add_cross_attention": (False,),
        }

        name: Literal["gpt2"] = "gpt2"  # type: ignore[assignment]  # narrows
        n_embd: int = Field(256, gt=0)
        """Channels of the residual stream."""
        n_layer: int = Field(6, gt=0)
        """Layers."""
        n_head: int = Field(4, gt=0)
        """Heads, a divisor of n_embd."""
        n_inner: int | None = Field(None, gt=0)
        """Inner channels of the feed-forward layer; null: 4 * n_embd."""
        n_positions: int = Field(512, gt=0)
        """Most tokens in a row: one learned vector each."""
        layer_norm_epsilon: float = Field(1e-5, gt=0)
        """Added to the variance."""

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.n_embd % self.n_head:
                raise ValueError(f"n_embd {self.n_embd} does not divide among {self.n_head} heads")
            return self

        @property
        def inner(self) -> int:
            """Inner channels, resolved."""
            return self.n_inner or 4 * self.n_embd

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.transformer = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.n_embd, config.vocab_size)
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
        end = sight.start + sight.tokens
        at = sight.at(ids_BT.device)
        if end > self.config.n_positions and (longest := int(at.max()) + 1) > self.config.n_positions:
            raise ValueError(f"{longest} tokens in a row, but this model has {self.config.n_positions} positions")
        x = self.transformer.wte(ids_BT) + self.transformer.wpe(at)
        for index, layer in enumerate(self.transformer.h):
            x = layer(x, sight, state.layers[index] if state else None)
        if state:
            state.length = end
        return self.transformer.ln_f(x)

    @property
    def embedding(self) -> nn.Parameter:
        return self.transformer.wte.weight

    def name_here(self, name: str) -> str | None:
        """Early checkpoints leave out the prefix and store the causal mask beside the weights."""
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            return None
        bare = name.startswith(("wte.", "wpe.", "h.", "ln_f."))
        return super().name_here(f"transformer.{name}" if bare else name)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31,
            "n_embd": 24,
            "n_layer": 2,
            "n_head": 3,
            "n_inner": 40,
            "n_positions": 64,
            "initializer_range": 0.2,
        }
        return cls(cls.Config(**{**sizes, **changes}))
