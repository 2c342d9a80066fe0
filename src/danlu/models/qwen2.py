"""Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv:2407.10671): Llama's block with biases on queries, keys and values.

Its later layers may look through a sliding window.
"""

from typing import Any, ClassVar, Literal

from danlu.models import MODELS
from danlu.models.decoder import Block, Decoder, swiglu
from danlu.models.windows import WindowedConfig
from danlu.nn.self_attention import SelfAttention


@MODELS.register
class Qwen2(Decoder):
    """Loads and writes Qwen2ForCausalLM folders."""

    class Config(WindowedConfig):
        hf_type: ClassVar[str] = "qwen2"
        hf_class: ClassVar[str] = "Qwen2ForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            **WindowedConfig.absent, "tie_word_embeddings": False, "num_key_value_heads": 32, "max_position_embeddings": 32768,
        }  # fmt: skip

        fixed: ClassVar[dict[str, Any]] = {**WindowedConfig.fixed, "use_mrope": (False, None)}

        name: Literal["qwen2"] = "qwen2"  # type: ignore[assignment]  # narrows
        attention_bias: Literal[True] = True  # type: ignore[assignment]  # narrows
        """Biases on queries, keys and values, never on the output."""

    @staticmethod
    def block(config: Config) -> Block:
        attention = SelfAttention(
            config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width, in_bias=True
        )
        return Block(config, attention, swiglu(config))
