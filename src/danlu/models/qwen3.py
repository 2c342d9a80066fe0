"""Qwen3, dense (Yang et al. 2025, arXiv:2505.09388): Qwen2's block with normalised queries and keys in place of biases.

The default family. The norm over each head (arXiv:2010.04245) keeps scores small however the matrices grow.
"""

from typing import Any, ClassVar, Literal

from danlu.models import MODELS
from danlu.models.decoder import Block, Decoder, swiglu
from danlu.models.windows import WindowedConfig
from danlu.nn.self_attention import QKNormAttention


@MODELS.register
class Qwen3(Decoder):
    """Loads and writes Qwen3ForCausalLM folders."""

    class Config(WindowedConfig):
        hf_type: ClassVar[str] = "qwen3"
        hf_class: ClassVar[str] = "Qwen3ForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            **WindowedConfig.absent, "tie_word_embeddings": False, "num_key_value_heads": 32, "head_dim": 128,
            "max_position_embeddings": 32768,
        }  # fmt: skip

        name: Literal["qwen3"] = "qwen3"  # type: ignore[assignment]  # narrows

    @staticmethod
    def block(config: Config) -> Block:
        attention = QKNormAttention(
            config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width, config.rms_norm_eps,
            bias=config.attention_bias,
        )  # fmt: skip
        return Block(config, attention, swiglu(config))
