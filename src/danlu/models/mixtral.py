"""Mixtral (Jiang et al. 2024, arXiv:2401.04088): Mistral's block whose feed-forward layer is two of eight experts a token.

Section 2.1: a linear router, softmax over the chosen logits, SwiGLU experts; nothing else differs from Mistral.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from danlu.models import MODELS
from danlu.models.decoder import Block
from danlu.models.sparse import SparseConfig, SparseDecoder, pieces, share_of
from danlu.nn.experts import Experts
from danlu.nn.moe import SoftmaxRouter, SparseMLP
from danlu.nn.self_attention import SelfAttention


@MODELS.register
class Mixtral(SparseDecoder):
    """Loads and writes MixtralForCausalLM folders."""

    class Config(SparseConfig):
        hf_type: ClassVar[str] = "mixtral"
        hf_class: ClassVar[str] = "MixtralForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            "tie_word_embeddings": False, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rope_theta": 1e6,
            "rms_norm_eps": 1e-5,
        }  # fmt: skip

        name: Literal["mixtral"] = "mixtral"  # type: ignore[assignment]  # narrows
        attention_bias: Literal[False] = False  # type: ignore[assignment]  # narrows
        """This family has none."""
        num_local_experts: int = Field(8, gt=0)
        """Experts of each layer; intermediate_size is the width of one."""
        sliding_window: int | None = Field(None, gt=0)
        """Tokens that a layer sees, the newest included; null: all."""

        @model_validator(mode="after")
        def _enough_experts(self) -> Self:
            self.check_choices(self.num_local_experts)
            return self

        @property
        def windows(self) -> tuple[int | None, ...]:
            return (self.sliding_window,) * self.num_hidden_layers

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """A token's experts together are as wide as the dense layer that the budget would have chosen."""
            return super().sized(width=width, inner=share_of(inner, 2), layers=layers, heads=heads, context=context)

        @classmethod
        def stored(cls, given: Mapping[str, Any]) -> float:
            return given.get("num_local_experts", 8) / 2

    @staticmethod
    def layer(config: Config, index: int) -> Block:
        attention = SelfAttention(config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width)
        router = SoftmaxRouter(config.hidden_size, config.num_local_experts, config.num_experts_per_tok, normalised=True)
        return Block(
            config, attention, SparseMLP(router, Experts(config.num_local_experts, config.hidden_size, config.intermediate_size))
        )

    def pieces(self, name: str) -> dict[str, Any]:
        """The names of published checkpoints: block_sparse_moe for mlp, and w1, w3, w2 for gate, up and down."""
        layer, sparse, part = name.partition(".mlp.")
        if not sparse:
            return super().pieces(name)
        at = f"{layer}.block_sparse_moe."
        return (
            {f"{at}{part}": ...}
            if part == "gate.weight"
            else pieces(name, self.get_parameter(name).shape, f"{at}experts", "w1", "w3", "w2")
        )
