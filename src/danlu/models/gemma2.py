"""Gemma 2 (Gemma Team 2024, arXiv:2408.00118): Gemma with every other layer looking through a window, and more kept in bounds.

Differs from Gemma by norms after attention and feed-forward too (section 2), scores and logits bent into (-cap, cap), and
scores scaled by a setting of their own rather than by the head's width.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.gemma import Gemma, GemmaConfig
from danlu.nn.geglu import GEGLU
from danlu.nn.loss import soft_cap
from danlu.nn.mask import Sight
from danlu.nn.norm import UnitRMSNorm
from danlu.nn.self_attention import SelfAttention
from danlu.nn.state import LayerState

Kind = Literal["full_attention", "sliding_attention"]


class LayeredConfig(GemmaConfig):
    """What Gemma 2 and 3 share: layers of two kinds."""

    absent: ClassVar[dict[str, Any]] = {
        **GemmaConfig.absent, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096,
    }  # fmt: skip

    query_pre_attn_scalar: int | None = Field(None, gt=0)
    """Scores are divided by its root; null: the head's width."""
    sliding_window: int | None = Field(None, gt=0)
    """Tokens that a sliding layer sees, the newest included; null: all."""
    layer_types: list[Kind] | None = None
    """What each layer is; null: the family's pattern, which begins with sliding_attention."""
    final_logit_softcapping: float | None = Field(None, gt=0)
    """Logits stay below this in size; null: no cap."""

    @model_validator(mode="after")
    def _layers_fit(self) -> Self:
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(f"layer_types names {len(self.layer_types)} layers of {self.num_hidden_layers}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"transformers refuses {self.num_attention_heads} heads that do not divide {self.hidden_size}")
        return self

    @property
    def pattern(self) -> int:
        """Every layer of this number sees everything."""
        return 2

    @property
    def kinds(self) -> list[Kind]:
        """What each layer is, resolved."""
        full = (bool((index + 1) % self.pattern == 0) for index in range(self.num_hidden_layers))
        return self.layer_types or ["full_attention" if sees_all else "sliding_attention" for sees_all in full]

    @property
    def windows(self) -> tuple[int | None, ...]:
        return tuple(self.sliding_window if kind == "sliding_attention" else None for kind in self.kinds)

    @property
    def score_scale(self) -> float:
        """What scores are multiplied with."""
        return (self.query_pre_attn_scalar or self.head_width) ** -0.5

    def to_hf(self) -> dict[str, Any]:
        return {
            **super().to_hf(), "layer_types": self.kinds, "query_pre_attn_scalar": self.query_pre_attn_scalar or self.head_width,
        }  # fmt: skip


class SandwichBlock(nn.Module):
    """Layer with a norm before and after each part, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: LayeredConfig, attention: SelfAttention):
        super().__init__()
        sizes = (config.hidden_size, config.rms_norm_eps)
        self.input_layernorm = UnitRMSNorm(*sizes)
        self.self_attn = attention
        self.post_attention_layernorm = UnitRMSNorm(*sizes)
        self.pre_feedforward_layernorm = UnitRMSNorm(*sizes)
        self.mlp = GEGLU(config.hidden_size, config.intermediate_size)
        self.post_feedforward_layernorm = UnitRMSNorm(*sizes)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], sight: Sight, state: LayerState | None = None) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(x, self.input_layernorm, rope, sight, state))
        return x + self.post_feedforward_layernorm(self.mlp(x, self.pre_feedforward_layernorm))


@MODELS.register
class Gemma2(Gemma):
    """Loads and writes Gemma2ForCausalLM folders."""

    class Config(LayeredConfig):
        hf_type: ClassVar[str] = "gemma2"
        hf_class: ClassVar[str] = "Gemma2ForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            **LayeredConfig.absent, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
        }  # fmt: skip

        name: Literal["gemma2"] = "gemma2"  # type: ignore[assignment]  # narrows
        final_logit_softcapping: float | None = Field(30.0, gt=0)
        """Logits stay below this in size; null: no cap."""
        attn_logit_softcapping: float | None = Field(50.0, gt=0)
        """Attention scores stay below this in size; null: no cap, which is faster."""

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """The window is half of the context, as published."""
            sizes = super().sized(width=width, inner=inner, layers=layers, heads=heads, context=context)
            return {**sizes, "sliding_window": max(context // 2, 1)}

    @staticmethod
    def block(config: Any) -> nn.Module:
        attention = SelfAttention(
            config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width,
            in_bias=config.attention_bias, out_bias=config.attention_bias,
            scale=config.score_scale, softcap=config.attn_logit_softcapping,
        )  # fmt: skip
        return SandwichBlock(config, attention)

    def logits(self, hidden: Tensor) -> Tensor:
        return soft_cap(super().logits(hidden), self.config.final_logit_softcapping)

    def to_head(self, hidden_ND: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return hidden_ND, {"cap": self.config.final_logit_softcapping}

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        return super().tiny(**{"sliding_window": 5, "num_hidden_layers": 3, **changes})
