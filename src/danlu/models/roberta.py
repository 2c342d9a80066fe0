"""RoBERTa (Liu et al. 2019, arXiv:1907.11692): BERT trained longer and better, on one objective.

Beside BERT only names and places differ: the first token of a document takes the position vector after that of the padding
token, and a padding token inside a text takes the padding's own and counts no place. D width, V vocabulary.
"""

from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.encoder import Body, Encoder, EncoderConfig
from danlu.nn.linear import Linear
from danlu.nn.mask import positions
from danlu.nn.norm import LayerNorm


class Head(nn.Module):
    """The head's own parameters, and x (..., D) -> (..., D) before the product with the embedding."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.bias = nn.Parameter(torch.empty(config.vocab_size))
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=True)
        self.layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer_norm(F.gelu(self.dense(x)))


@MODELS.register
class RoBERTa(Encoder):
    """Loads and writes RobertaForMaskedLM folders."""

    class Config(EncoderConfig):
        hf_type: ClassVar[str] = "roberta"
        hf_class: ClassVar[str] = "RobertaForMaskedLM"
        absent: ClassVar[dict[str, Any]] = {"bos_token_id": 0, "eos_token_id": 2}

        name: Literal["roberta"] = "roberta"  # type: ignore[assignment]  # narrows
        max_position_embeddings: int = Field(514, gt=0)
        """Learned position vectors: those up to the padding's are no places."""
        type_vocab_size: int = Field(1, gt=0)
        """Kinds of segments."""
        layer_norm_eps: float = Field(1e-5, gt=0)
        """Added to the variance."""
        pad_token_id: int = Field(1, ge=0)  # type: ignore[assignment]  # here it decides about positions
        """Token that fills short rows; the positions of a text begin one after its number."""

        @field_validator("pad_token_id", mode="before")
        @classmethod
        def _usual(cls, value: Any) -> Any:
            """A tokenizer without a padding token leaves the number that the first RoBERTa had."""
            return 1 if value is None else value

        @model_validator(mode="after")
        def _has_places(self) -> Self:
            if self.context < 1:
                raise ValueError(
                    f"{self.max_position_embeddings} positions leave none after that of padding token {self.pad_token_id}"
                )
            return self

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """Two positions more than places, as the first RoBERTa has them."""
            return super().sized(width=width, inner=inner, layers=layers, heads=heads, context=context + 2)

        @property
        def context(self) -> int:
            return self.max_position_embeddings - self.pad_token_id - 1

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.roberta = Body(config)
        self.lm_head = Head(config)
        self.initialise(seed)

    def places(self, ids_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
        """The count of tokens up to each that are no padding, within its document, from the padding's number on; (B, T)."""
        text_BT = ids_BT != self.config.pad_token_id
        count_BT = text_BT.long().cumsum(1)
        if documents_BT is not None:
            at_T = torch.arange(ids_BT.size(1), device=ids_BT.device)
            first_BT = at_T - positions(documents_BT)
            count_BT = count_BT - (count_BT - text_BT.long()).gather(1, first_BT)
        return count_BT * text_BT + self.config.pad_token_id

    def transformed(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)

    @property
    def output_bias(self) -> Tensor:
        return self.lm_head.bias

    def name_here(self, name: str) -> str | None:
        """A decoder stored beside the embedding and the bias is the same once more."""
        same = {"lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"}
        return same.get(name) or super().name_here(name)
