"""Qwen3, sparse (Yang et al. 2025, arXiv:2505.09388): Qwen3's block whose feed-forward layer is many narrow experts.

Section 2 of the report: 128 experts, 8 a token, none shared. Against Mixtral the experts are narrower than a dense layer
(moe_intermediate_size), their shares may stay those of the softmax over all experts (norm_topk_prob), and some layers may be
dense (mlp_only_layers, decoder_sparse_step).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from danlu.models import MODELS
from danlu.models.decoder import Block, swiglu
from danlu.models.sparse import SparseConfig, SparseDecoder, pieces, share_of
from danlu.nn.experts import Experts
from danlu.nn.moe import SoftmaxRouter, SparseMLP
from danlu.nn.self_attention import QKNormAttention


@MODELS.register
class Qwen3MoE(SparseDecoder):
    """Loads and writes Qwen3MoeForCausalLM folders."""

    class Config(SparseConfig):
        hf_type: ClassVar[str] = "qwen3_moe"
        hf_class: ClassVar[str] = "Qwen3MoeForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            "tie_word_embeddings": False, "num_key_value_heads": 4, "max_position_embeddings": 32768, "num_experts": 128,
            "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": False, "sliding_window": 4096,
        }  # fmt: skip

        name: Literal["qwen3_moe"] = "qwen3_moe"  # type: ignore[assignment]  # narrows
        num_experts: int = Field(16, gt=0)
        """Experts of each sparse layer."""
        num_experts_per_tok: int = Field(4, gt=0)
        """Experts that each token takes."""
        moe_intermediate_size: int = Field(176, gt=0)
        """Inner channels of one expert; intermediate_size is that of a dense layer."""
        norm_topk_prob: bool = True
        """Whether the shares of a token's experts add up to one."""
        decoder_sparse_step: int = Field(1, gt=0)
        """Every how many layers there is a sparse one."""
        mlp_only_layers: tuple[int, ...] = ()
        """Layers, counted from 0, that are dense whatever decoder_sparse_step says."""
        use_sliding_window: bool = False
        """Whether the layers look through a window."""
        sliding_window: int | None = Field(None, gt=0)
        """Tokens that a layer then sees, the newest included."""

        @model_validator(mode="after")
        def _enough_experts(self) -> Self:
            self.check_choices(self.num_experts)
            if self.use_sliding_window and self.sliding_window is None:
                raise ValueError("use_sliding_window needs a sliding_window: how many tokens a layer sees")
            return self

        @property
        def windows(self) -> tuple[int | None, ...]:
            return (self.sliding_window if self.use_sliding_window else None,) * self.num_hidden_layers

        def sparse(self, index: int) -> bool:
            """Whether the index-th layer has experts."""
            return index not in self.mlp_only_layers and (index + 1) % self.decoder_sparse_step == 0

        @classmethod
        def from_hf(cls, found: dict[str, Any]) -> Self:
            """As for every family; transformers 5 writes num_experts as num_local_experts."""
            other = found.get("num_local_experts", found.get("num_experts"))
            if other is not None and found.get("num_experts", other) == other:
                found = {key: value for key, value in found.items() if key != "num_local_experts"} | {"num_experts": other}
            return super().from_hf(found)

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """A token's experts together are as wide as the dense layer that the budget would have chosen."""
            chosen = super().sized(width=width, inner=inner, layers=layers, heads=heads, context=context)
            return {**chosen, "moe_intermediate_size": share_of(inner, 4)}

        @classmethod
        def stored(cls, given: Mapping[str, Any]) -> float:
            return given.get("num_experts", 16) / 4

    @staticmethod
    def layer(config: Config, index: int) -> Block:
        attention = QKNormAttention(
            config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width, config.rms_norm_eps,
            bias=config.attention_bias,
        )  # fmt: skip
        if not config.sparse(index):
            return Block(config, attention, swiglu(config))
        router = SoftmaxRouter(config.hidden_size, config.num_experts, config.num_experts_per_tok, config.norm_topk_prob)
        experts = Experts(config.num_experts, config.hidden_size, config.moe_intermediate_size)
        return Block(config, attention, SparseMLP(router, experts))

    def pieces(self, name: str) -> dict[str, Any]:
        """Published checkpoints keep every expert's three matrices apart."""
        at, experts, _ = name.rpartition(".experts.")
        if not experts:
            return super().pieces(name)
        return pieces(name, self.get_parameter(name).shape, f"{at}.experts", "gate_proj", "up_proj", "down_proj")
