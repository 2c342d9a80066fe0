"""The Transformer as first published (Vaswani et al. 2017, arXiv:1706.03762), as Marian checkpoints have it (arXiv:1804.00344).

Norms stand behind their layer (section 3.1), places are waves (3.5), words are multiplied by the root of the width and one
matrix serves both sides and the head (3.4), the feed-forward layer bends with relu (3.3). Published Marian models bend
with swish and begin an answer with the filling token. The table of waves is not stored: files that hold one repeat what
nn/sinusoid.py computes. Leaves out models whose two languages have vocabularies of their own.
"""

from typing import Any, ClassVar, Literal

from torch import Tensor

from danlu.models import MODELS
from danlu.models.transformer import Stack, Transformer, TransformerConfig
from danlu.nn.sinusoid import waves


@MODELS.register
class Marian(Transformer):
    """Loads and writes MarianMTModel folders."""

    class Config(TransformerConfig):
        hf_type: ClassVar[str] = "marian"
        hf_class: ClassVar[str] = "MarianMTModel"
        absent: ClassVar[dict[str, Any]] = {
            "activation_function": "gelu", "scale_embedding": False, "decoder_start_token_id": 58100, "pad_token_id": 58100,
            "eos_token_id": 0,
        }  # fmt: skip
        fixed: ClassVar[dict[str, Any]] = {
            **TransformerConfig.fixed, "share_encoder_decoder_embeddings": (True,), "normalize_embedding": (False,),
            "static_position_embeddings": (True,),
        }  # fmt: skip

        name: Literal["marian"] = "marian"  # type: ignore[assignment]  # narrows
        scale_embedding: bool = True
        """Multiply the vectors of the tokens by the root of d_model."""
        decoder_start_token_id: int = 0
        """Token that opens what the decoder writes; pre-training sets it to the tokenizer's."""

        @classmethod
        def from_hf(cls, found: dict[str, Any]) -> "Marian.Config":
            """A second vocabulary of the same size is the same vocabulary."""
            found = dict(found)
            if found.get("decoder_vocab_size") in (None, found.get("vocab_size")):
                found.pop("decoder_vocab_size", None)
            found.pop("extra_pos_embeddings", None)  # rows that a table of waves would have beyond its places
            return super().from_hf(found)

    def places(self, side: Stack, x: Tensor, at: Tensor) -> Tensor:
        return x + waves(at, self.config.d_model).to(x.dtype)

    def name_here(self, name: str) -> str | None:
        return None if name.endswith("embed_positions.weight") else super().name_here(name)
