"""Llama (Touvron et al. 2023, arXiv:2302.13971): RMSNorm, rotary positions, SwiGLU.

Llama 2 (arXiv:2307.09288) adds grouped keys, Llama 3 (arXiv:2407.21783) a wide base, 3.1 and later its own rotary scaling:
`rope_scaling` with rope_type llama3.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from danlu.models import MODELS
from danlu.models.decoder import Block, Decoder, DecoderConfig, swiglu
from danlu.nn.self_attention import SelfAttention


@MODELS.register
class Llama(Decoder):
    """Loads and writes LlamaForCausalLM folders."""

    class Config(DecoderConfig):
        hf_type: ClassVar[str] = "llama"
        hf_class: ClassVar[str] = "LlamaForCausalLM"
        absent: ClassVar[dict[str, Any]] = {"tie_word_embeddings": False, "max_position_embeddings": 2048}

        name: Literal["llama"] = "llama"  # type: ignore[assignment]  # narrows
        mlp_bias: bool = False
        """Biases in the feed-forward layer."""

        @model_validator(mode="after")
        def _loads_elsewhere(self) -> Self:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"transformers refuses a Llama whose {self.num_attention_heads} heads do not divide {self.hidden_size}"
                )
            return self

    @staticmethod
    def block(config: Config) -> Block:
        attention = SelfAttention(
            config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width,
            in_bias=config.attention_bias, out_bias=config.attention_bias,
        )  # fmt: skip
        return Block(config, attention, swiglu(config, config.mlp_bias))
