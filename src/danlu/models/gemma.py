"""Gemma (Gemma Team 2024, arXiv:2403.08295): Llama's block with GEGLU, norms of gain 1 + weight, and scaled embeddings.

The head shares the embedding; multiplying its rows with sqrt(width), in the weights' own type, lets the first layer read
vectors of about unit channels all the same. Heads may be wider than width / heads.
"""

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.decoder import Block, Decoder, DecoderConfig, Trunk
from danlu.nn.geglu import GEGLU
from danlu.nn.norm import UnitRMSNorm
from danlu.nn.self_attention import SelfAttention


class GemmaConfig(DecoderConfig):
    """What the Gemma families share."""

    ties: ClassVar[bool] = True
    absent: ClassVar[dict[str, Any]] = {
        "head_dim": 256, "max_position_embeddings": 8192, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    }  # fmt: skip
    harmless: ClassVar[tuple[str, ...]] = ("cache_implementation", "_sliding_window_pattern")  # layer_types says it too
    fixed: ClassVar[dict[str, Any]] = {
        "hidden_act": ("gelu_pytorch_tanh",),
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "use_bidirectional_attention": (None, False),
    }


class GemmaTrunk(Trunk):
    """All but the head: scaled embeddings, norms of gain 1 + weight."""

    def __init__(self, config: GemmaConfig, blocks: list[nn.Module]):
        super().__init__(config, blocks, UnitRMSNorm)
        self.scale = config.hidden_size**0.5

    def embed(self, ids_BT: Tensor) -> Tensor:
        x = self.embed_tokens(ids_BT)
        return x * x.new_tensor(self.scale)  # rounded as the weights are: sqrt(3072) is 55.5 in bfloat16


@MODELS.register
class Gemma(Decoder):
    """Loads and writes GemmaForCausalLM folders."""

    class Config(GemmaConfig):
        hf_type: ClassVar[str] = "gemma"
        hf_class: ClassVar[str] = "GemmaForCausalLM"
        absent: ClassVar[dict[str, Any]] = {**GemmaConfig.absent, "num_key_value_heads": 16}
        fixed: ClassVar[dict[str, Any]] = {
            **GemmaConfig.fixed,
            "hidden_act": ("gelu_pytorch_tanh", "gelu"),  # the first release said gelu and meant its tanh form
        }

        name: Literal["gemma"] = "gemma"  # type: ignore[assignment]  # narrows

    @classmethod
    def trunk(cls, config: Any) -> nn.Module:
        return GemmaTrunk(config, [cls.block(config) for _ in range(config.num_hidden_layers)])

    @staticmethod
    def block(config: Any) -> nn.Module:
        attention = SelfAttention(
            config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width,
            in_bias=config.attention_bias, out_bias=config.attention_bias,
        )  # fmt: skip
        return Block(config, attention, GEGLU(config.hidden_size, config.intermediate_size), UnitRMSNorm)

    def constant(self, name: str) -> float:
        """Norm weights start at zero: the gain is one more."""
        return 0.0
