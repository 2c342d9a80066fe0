"""BART (Lewis et al. 2020, arXiv:1910.13461): the original encoder-decoder with learned places and a norm on its first vectors.

Beside marian.py: places are learned, one table a side, whose first two rows are never read (a habit of the code it was made
with), and the sum of word and place is normed before the first layer.
"""

from typing import Any, ClassVar, Literal

from torch import Tensor

from danlu.models import MODELS
from danlu.models.transformer import EPS, Layer, Stack, StreamNorm, Transformer, TransformerConfig
from danlu.nn.linear import Embedding

OFFSET = 2
"""Rows of a table of places before the first place."""


class Side(Stack):
    """One side with its places."""

    def __init__(self, config: TransformerConfig, kind: type[Layer], layers: int, count: int, inner: int):
        super().__init__(config, kind, layers, count, inner)
        self.embed_positions = Embedding(config.max_position_embeddings + OFFSET, config.d_model)
        self.layernorm_embedding = StreamNorm(config.d_model, EPS)


@MODELS.register
class BART(Transformer):
    """Loads and writes BartForConditionalGeneration folders."""

    class Config(TransformerConfig):
        hf_type: ClassVar[str] = "bart"
        hf_class: ClassVar[str] = "BartForConditionalGeneration"
        absent: ClassVar[dict[str, Any]] = {"activation_function": "gelu", "decoder_start_token_id": 2}
        fixed: ClassVar[dict[str, Any]] = {
            **TransformerConfig.fixed, "normalize_embedding": (True,), "static_position_embeddings": (False,),
            "extra_pos_embeddings": (OFFSET,),
        }  # fmt: skip

        name: Literal["bart"] = "bart"  # type: ignore[assignment]  # narrows
        activation_function: Literal["relu", "gelu", "silu", "swish"] = "gelu"
        """What bends the feed-forward layer; swish is another name of silu."""

    @classmethod
    def stack(cls, config: Any, kind: type[Layer], layers: int, count: int, inner: int) -> Stack:
        return Side(config, kind, layers, count, inner)

    def places(self, side: Any, x: Tensor, at: Tensor) -> Tensor:
        normed: Tensor = side.layernorm_embedding(x + side.embed_positions(at + OFFSET))
        return normed
