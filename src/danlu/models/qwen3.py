"""Qwen3, dense (Yang et al. 2025, arXiv:2505.09388): Llama's block with normalised queries and keys. The default family.

Leaves out sliding windows and long-context rescaling.
"""

from typing import Any, ClassVar, Literal

from danlu.models import MODELS
from danlu.models.decoder import Block, Decoder, DecoderConfig, swiglu
from danlu.nn.self_attention import QKNormAttention


@MODELS.register
class Qwen3(Decoder):
    """Loads and writes Qwen3ForCausalLM folders."""

    class Config(DecoderConfig):
        hf_type: ClassVar[str] = "qwen3"
        hf_class: ClassVar[str] = "Qwen3ForCausalLM"
        absent: ClassVar[dict[str, Any]] = {"tie_word_embeddings": False, "head_dim": 128, "max_position_embeddings": 32768}
        fixed: ClassVar[dict[str, Any]] = {
            **DecoderConfig.fixed,
            "use_sliding_window": (False, None),
            "layer_types": ("full_attention", None),
        }

        name: Literal["qwen3"] = "qwen3"  # type: ignore[assignment]  # narrows

        def to_hf(self) -> dict[str, Any]:
            return {**super().to_hf(), "layer_types": ["full_attention"] * self.num_hidden_layers}

    @staticmethod
    def block(config: Config) -> Block:
        attention = QKNormAttention(
            config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width, config.rms_norm_eps,
            bias=config.attention_bias,
        )  # fmt: skip
        return Block(config, attention, swiglu(config))
