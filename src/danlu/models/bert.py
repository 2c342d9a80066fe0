"""BERT (Devlin et al. 2019, arXiv:1810.04805): the Transformer's encoder, trained to name hidden tokens.

Beside GPT-2 it sees both ways, norms after each sub-layer (post-norm), adds a learned segment vector, and its head
transforms a vector before it is compared with the embedding. Leaves out the pooled sentence vector and the head that
tells whether one sentence follows another. D width, V vocabulary.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.encoder import Body, Encoder, EncoderConfig
from danlu.nn.linear import Linear
from danlu.nn.norm import LayerNorm


class Transform(nn.Module):
    """x (..., D) -> (..., D) before the product with the embedding."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=True)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(x)))


class Predictions(nn.Module):
    """The head's own parameters: its matrix is the embedding."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.bias = nn.Parameter(torch.empty(config.vocab_size))
        self.transform = Transform(config)


class Head(nn.Module):
    """The level that checkpoints have above the predictions."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.predictions = Predictions(config)


@MODELS.register
class BERT(Encoder):
    """Loads and writes BertForMaskedLM folders, Google's first ones included."""

    class Config(EncoderConfig):
        hf_type: ClassVar[str] = "bert"
        hf_class: ClassVar[str] = "BertForMaskedLM"

        name: Literal["bert"] = "bert"  # type: ignore[assignment]  # narrows

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.bert = Body(config)
        self.cls = Head(config)
        self.initialise(seed)

    def transformed(self, hidden: Tensor) -> Tensor:
        return self.cls.predictions.transform(hidden)

    @property
    def output_bias(self) -> Tensor:
        return self.cls.predictions.bias

    def name_here(self, name: str) -> str | None:
        """A decoder stored beside the embedding and the bias is the same once more."""
        same = {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        }
        return same.get(name) or super().name_here(name)
