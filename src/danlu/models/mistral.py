"""Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama's block; every layer may look through one sliding window.

Section 2 of the paper: with a window of W and L layers a token still learns from up to L W tokens before it, and decoding
remembers W tokens a layer however long the text is.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from danlu.models import MODELS
from danlu.models.decoder import Block, Decoder, DecoderConfig, swiglu
from danlu.nn.self_attention import SelfAttention


@MODELS.register
class Mistral(Decoder):
    """Loads and writes MistralForCausalLM folders."""

    class Config(DecoderConfig):
        hf_type: ClassVar[str] = "mistral"
        hf_class: ClassVar[str] = "MistralForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            "tie_word_embeddings": False, "num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096,
        }  # fmt: skip

        name: Literal["mistral"] = "mistral"  # type: ignore[assignment]  # narrows
        attention_bias: Literal[False] = False  # type: ignore[assignment]  # narrows
        """This family has none."""
        sliding_window: int | None = Field(None, gt=0)
        """Tokens that a layer sees, the newest included; null: all."""

        @property
        def windows(self) -> tuple[int | None, ...]:
            return (self.sliding_window,) * self.num_hidden_layers

    @staticmethod
    def block(config: Config) -> Block:
        attention = SelfAttention(config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width)
        return Block(config, attention, swiglu(config))
