"""What objectives of encoder-decoders share: each piece of a row becomes a source to read and a target to write.

The decoder reads the target one token late, behind a token that opens it. B rows, S tokens of a source, T of a target.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.pack import Row
from danlu.objectives.base import Batch, Objective
from danlu.objectives.pieces import Ids, side_by_side
from danlu.tokenizer.tokenizer import Tokenizer


class Rewriting(Objective):
    """A subclass says what the `pairs` of a row are."""

    kind = "Seq2SeqLM"
    family = "t5"
    of_text = False

    def __init__(self, config: Named, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        assert tokenizer is not None, "a piece begins and ends with tokens of the tokenizer"
        self.words = tokenizer
        self.bos, self.eos, self.start = tokenizer.bos_id, tokenizer.eos_id, tokenizer.start_id

    @abstractmethod
    def pairs(self, row: Row, seed: int) -> list[tuple[Ids, Ids]]:
        """Source and target of each piece of a row."""

    def batch(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        pairs = [self.pairs(row, seed) for row, seed in zip(rows, seeds, strict=True)]
        source, source_documents = side_by_side([[source for source, _ in row] for row in pairs], self.start)
        targets, documents = side_by_side([[target for _, target in row] for row in pairs], NO_LABEL)
        ids, _ = side_by_side([[np.append(self.start, target[:-1]) for _, target in row] for row in pairs], self.start)
        read = torch.tensor([int((row.targets != NO_LABEL).sum()) for row in rows])
        origin = [row.origin for row in rows]
        return Batch(ids, targets, documents, origin, source=source, source_documents=source_documents, read=read)

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        assert batch.source is not None
        source_BSD = model.encode(batch.source, documents_BS=batch.source_documents)
        hidden_BTD = model.hidden(
            begun(batch, model.config.decoder_start_token_id), source_BSD=source_BSD, documents_BT=batch.documents,
            source_documents_BS=batch.source_documents,
        )  # fmt: skip
        loss: Tensor = model.cross_entropy_sum(hidden_BTD.flatten(0, 1), batch.targets.flatten())
        return loss


def begun(batch: Batch, start: int | None) -> Tensor:
    """What a decoder reads, (B, T), with the model's own token at the beginning of each piece."""
    if start is None or batch.documents is None:
        return batch.ids
    return batch.ids.masked_fill(batch.documents.diff(dim=1, prepend=batch.documents[:, :1] - 1) != 0, start)
