"""Phi-3 (Abdin et al. 2024, arXiv:2404.14219): Llama's computation with fused matrices; positions on a share of each head.

One matrix makes queries, keys and values, another gate and up; Phi-4-mini turns three quarters of a head's channels.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from danlu.models import MODELS
from danlu.models.decoder import Block, Decoder, DecoderConfig
from danlu.nn.mlp import FusedSwiGLU
from danlu.nn.self_attention import FusedAttention


@MODELS.register
class Phi3(Decoder):
    """Loads and writes Phi3ForCausalLM folders: Phi-3, Phi-3.5, Phi-4."""

    class Config(DecoderConfig):
        hf_type: ClassVar[str] = "phi3"
        hf_class: ClassVar[str] = "Phi3ForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            "tie_word_embeddings": False, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        }  # fmt: skip

        fixed: ClassVar[dict[str, Any]] = {**DecoderConfig.fixed, "mlp_bias": (False,), "lm_head_bias": (False,)}
        harmless: ClassVar[tuple[str, ...]] = ("full_attn_mod", "interpolate_factor")  # Phi-4-mini's, read by no one

        name: Literal["phi3"] = "phi3"  # type: ignore[assignment]  # narrows
        attention_bias: Literal[False] = False  # type: ignore[assignment]  # narrows
        """This family has none."""
        partial_rotary_factor: float = Field(1.0, gt=0, le=1)
        """Share of a head's channels that carry positions."""
        sliding_window: int | None = Field(None, gt=0)
        """Tokens that a layer sees, the newest included; null: all."""

        @property
        def rotary_width(self) -> int:
            return int(self.head_width * self.partial_rotary_factor)

        @property
        def windows(self) -> tuple[int | None, ...]:
            return (self.sliding_window,) * self.num_hidden_layers

        @classmethod
        def read_rope(cls, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
            """The share and the trained length stand inside the rotary settings or beside them."""
            trained = found.pop("original_max_position_embeddings", None)
            for field in ("rope_parameters", "rope_scaling"):
                if said := dict(found.get(field) or {}):
                    share = said.pop("partial_rotary_factor", None)
                    found |= {} if share is None else {"partial_rotary_factor": share}
                    scaled = {said.get("rope_type"), said.get("type")} - {"default", None}
                    found[field] = {"original_max_position_embeddings": trained, **said} if scaled and trained else said
            return super().read_rope(found)

        def to_hf(self) -> dict[str, Any]:
            own = super().to_hf()
            rope = {**own["rope_parameters"], "partial_rotary_factor": self.partial_rotary_factor}
            trained = rope.get("original_max_position_embeddings", self.max_position_embeddings)
            return {**own, "rope_parameters": rope, "original_max_position_embeddings": trained}

    @staticmethod
    def block(config: Config) -> Block:
        attention = FusedAttention(config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width)
        return Block(config, attention, FusedSwiGLU(config.hidden_size, config.intermediate_size))
