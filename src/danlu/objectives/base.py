"""What an objective is: rows of text become a batch, a batch and a model become a sum of losses.

The loop divides by the targets of the whole step. B rows, T tokens, S tokens of a source.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.pack import Packer, Row
from danlu.data.shards import Document
from danlu.data.tokens import TokenSet
from danlu.tokenizer.tokenizer import Tokenizer


@dataclass
class Batch:
    """Rows of packed tokens, B rows of T; with a source where the model reads one text and writes another."""

    ids: Tensor
    """(B, T) int64."""
    targets: Tensor
    """(B, T) int64, the token that this place asks for; -100 asks for nothing."""
    documents: Tensor | None = None
    """(B, T) int32, non-decreasing along a row: which document a token belongs to; None: each row is one document."""
    origin: Sequence[Any] = field(default_factory=tuple)
    """Where each row comes from, for messages about it."""
    source: Tensor | None = None
    """(B, S) int64, what an encoder reads."""
    source_documents: Tensor | None = None
    """(B, S) int32, numbered as `documents`."""
    prefix: Tensor | None = None
    """(B, T) bool: tokens that see one another both ways."""
    read: Tensor | None = None
    """(B,) int64: tokens of text that each row was made from; None: as many as it has targets."""

    @cached_property
    def target_count(self) -> int:
        """Tokens that ask for something."""
        return int((self.targets != NO_LABEL).sum())

    @cached_property
    def read_count(self) -> int:
        """Tokens of text that it was made from."""
        return self.target_count if self.read is None else int(self.read.sum())

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Tensor)}

    def to(self, device: torch.device) -> "Batch":
        """The same batch where the model computes; itself when it is there already."""
        if self.ids.device == device:
            return self
        return replace(self, **{name: part.to(device) for name, part in self.tensors().items()})

    def rows(self, which: slice) -> "Batch":
        """Some of the rows."""
        return replace(self, **{name: part[which] for name, part in self.tensors().items()}, origin=self.origin[which])


class Objective(ABC):
    """Base of the objectives; built by `OBJECTIVES.build(config, tokenizer)`."""

    Config: ClassVar[type[Named]]
    kind: ClassVar[str]
    """The kind of model it trains: CausalLM, MaskedLM or Seq2SeqLM (models/base.py)."""
    family: ClassVar[str]
    """The family that is trained when none is named."""
    both_ways: ClassVar[bool] = False
    """Whether part of a text is read both ways, by a model that else reads from left to right."""
    special_tokens: ClassVar[tuple[str, ...]] = ()
    """Tokens that the tokenizer needs beside its usual ones."""
    unit: ClassVar[str] = "token"
    """What a target is called in reports."""
    of_text: ClassVar[bool] = True
    """Whether each token of a text is a target once, given those before it: only then do nats become bits per byte."""
    whole: ClassVar[bool] = False
    """Whether documents stay whole in a row; what is left of it is filling."""
    fields: ClassVar[tuple[str, ...]] = ()
    """Columns of a dataset's samples that it learns from; none: the text."""

    def __init__(self, config: Named, tokenizer: Tokenizer | None = None):
        self.config: Any = config
        self.tokenizer = tokenizer

    def reads(self, row_tokens: int) -> int:
        """Tokens of text that fill a row of `row_tokens`; fewer where the objective adds tokens of its own."""
        return row_tokens

    def take(self, document: Document) -> Any:
        """What of a document becomes tokens: `encode_batch` is given these."""
        return document.text

    def encode_batch(self, taken: Sequence[Any]) -> list[Any]:
        """Tokens of many documents, without those before and after each."""
        assert self.tokenizer is not None
        return self.tokenizer.encode_batch(taken)

    def packer(self, tokens: TokenSet, row_tokens: int, seed: int) -> Packer:
        """The rows of a run whose model sees `row_tokens` at once."""
        return Packer(tokens, self.reads(row_tokens), seed)

    def check(self, tokens: TokenSet, row_tokens: int) -> None:  # noqa: B027  # most learn from any document
        """Raise BadInput for documents that cannot be learned from in such rows."""

    def batch(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """Rows side by side. All that is random about a row comes from its own seed. A row's target of -100 marks filling."""
        return side_by_side(rows)

    @abstractmethod
    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Sum over the batch's targets, a float32 scalar in nats, with a gradient where gradients are on."""

    def figures(self) -> dict[str, float]:
        """What the last `loss_sum` without gradients found beside it, as sums over the targets; reports show their means."""
        return {}


def side_by_side(rows: Sequence[Row]) -> Batch:
    """Inputs and next tokens, as packed."""
    ids, targets, documents = (
        torch.from_numpy(np.stack([getattr(row, name) for row in rows])) for name in ("ids", "targets", "documents")
    )
    return Batch(ids=ids, targets=targets, documents=documents, origin=[row.origin for row in rows])
