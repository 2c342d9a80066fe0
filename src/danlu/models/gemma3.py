"""Gemma 3, its text model (Gemma Team 2025, arXiv:2503.19786): Gemma 2 with five windowed layers to each that sees everything.

Differs from Gemma 2 by normalised queries and keys in place of the cap on scores (section 2), and by two rotary bases:
10,000 within windows, 1,000,000 beyond, where `rope_scaling` applies too. Leaves out the image encoder (model_type gemma3).
"""

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.gemma2 import Gemma2, LayeredConfig, SandwichBlock
from danlu.nn.mask import Sight
from danlu.nn.norm import UnitRMSNorm
from danlu.nn.rope import turns
from danlu.nn.self_attention import QKNormAttention
from danlu.nn.state import State


@MODELS.register(aliases=("gemma3_text",))
class Gemma3(Gemma2):
    """Loads and writes Gemma3ForCausalLM folders."""

    class Config(LayeredConfig):
        hf_type: ClassVar[str] = "gemma3_text"
        hf_class: ClassVar[str] = "Gemma3ForCausalLM"
        absent: ClassVar[dict[str, Any]] = {**LayeredConfig.absent, "max_position_embeddings": 131_072}
        fixed: ClassVar[dict[str, Any]] = {**LayeredConfig.fixed, "attn_logit_softcapping": (None,)}

        name: Literal["gemma3"] = "gemma3"  # type: ignore[assignment]  # narrows
        rope_theta: float = Field(1_000_000.0, gt=0)
        """Base of the rotary wavelengths in layers that see everything."""
        rope_local_base_freq: float = Field(10_000.0, gt=0)
        """Base of the rotary wavelengths in sliding layers."""
        sliding_window_pattern: int = Field(6, gt=0)
        """Every layer of this number sees everything; ignored where layer_types are given."""

        @property
        def pattern(self) -> int:
            return self.sliding_window_pattern

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """Windows are short (1,024 of 32,768 tokens as published); of a short context a quarter."""
            sizes = super().sized(width=width, inner=inner, layers=layers, heads=heads, context=context)
            return {**sizes, "sliding_window": max(context // 4, 1)}

        @classmethod
        def read_rope(cls, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
            """As elsewhere, and transformers 5's one dictionary for each kind of layer."""
            both = found.get("rope_parameters") or {}
            if not set(both) & {"full_attention", "sliding_attention"}:
                return super().read_rope(found)
            near, wrong = dict(both.get("sliding_attention") or {}), []
            local = near.pop("rope_theta", found.get("rope_local_base_freq"))
            if near.pop("rope_type", "default") != "default" or near:
                wrong.append(
                    f"rope_parameters.sliding_attention: {both['sliding_attention']} (computed here: rope_type 'default')"
                )
            found["rope_parameters"] = both.get("full_attention")
            if local is not None:
                found["rope_local_base_freq"] = local
            found, more = super().read_rope(found)
            return found, wrong + more

        def to_hf(self) -> dict[str, Any]:
            own = super().to_hf()
            near = {"rope_type": "default", "rope_theta": self.rope_local_base_freq}
            return {**own, "rope_parameters": {"full_attention": own["rope_parameters"], "sliding_attention": near}}

    @staticmethod
    def block(config: Any) -> nn.Module:
        attention = QKNormAttention(
            config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width, config.rms_norm_eps,
            bias=config.attention_bias, scale=config.score_scale, norm=UnitRMSNorm,
        )  # fmt: skip
        return SandwichBlock(config, attention)

    def ropes(self, sight: Sight, ids_BT: Tensor, state: State | None = None) -> list[tuple[Tensor, Tensor]]:
        far = self.rope(sight, ids_BT, state)
        near = turns(sight.at(ids_BT.device), self.config.head_width, self.config.rope_local_base_freq)
        return [far if kind == "full_attention" else near for kind in self.config.kinds]

    @classmethod
    def tiny(cls, **changes: Any) -> "Gemma3":
        return super().tiny(**{"sliding_window_pattern": 3, **changes})
