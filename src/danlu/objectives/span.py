"""Span corruption (T5, Raffel et al. 2020, arXiv:1910.10683, section 3.1.4): some stretches of a text are hidden, and asked for.

The encoder reads the text with a numbered mark in place of each hidden stretch; the decoder writes the marks with what they
hid, a last mark, and the end. Source and target together hold every token once: nothing is lost. Each piece of a document is
corrupted by itself; a document's end stays in sight.

    text    the cat sat on the mat      source  the <|extra_0|> on the mat      target  <|extra_0|> cat sat <|extra_1|>
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from danlu.core.errors import BadSettings
from danlu.core.settings import Named
from danlu.data.pack import Row
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import NO_LABEL, Batch, Objective
from danlu.objectives.pieces import Ids, Piece, begun, pieces, side_by_side
from danlu.tokenizer.tokenizer import Tokenizer

MARKS = tuple(f"<|extra_{number}|>" for number in range(100))
"""What stands for hidden stretches, in order."""


@OBJECTIVES.register
class Span(Objective):
    """What T5 is pre-trained with."""

    kind = "Seq2SeqLM"
    family = "t5"
    special_tokens = MARKS
    of_text = False

    class Config(Named):
        name: Literal["span"] = "span"  # type: ignore[assignment]  # narrows
        rate: float = Field(0.15, gt=0, lt=1)
        """Share of the tokens that are hidden."""
        mean_span: float = Field(3.0, ge=1)
        """Mean length of a hidden stretch, tokens."""

    def __init__(self, config: Named, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        assert tokenizer is not None, "spans are hidden behind tokens of the tokenizer"
        self.bos, self.eos, self.start = tokenizer.bos_id, tokenizer.eos_id, tokenizer.start_id
        self.marks = np.array([tokenizer.special_tokens[mark] for mark in MARKS])

    def reads(self, row_tokens: int) -> int:
        """The most text whose source fits a row when it is one piece (T5 reads 568 tokens for rows of 512).

        Raises BadSettings where that takes more marks than there are.
        """
        most = 1
        while self._source_length(most + 1) <= row_tokens:
            most += 1
        if self.counts(most)[1] >= len(MARKS):
            raise BadSettings(
                f"--objective.name span has {len(MARKS)} marks, and rows of {row_tokens} tokens would take "
                f"{self.counts(most)[1] + 1}. Set shorter --row_tokens or a longer --objective.mean_span."
            )
        return most

    def batch(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        pairs = [self.corrupt(row, seed) for row, seed in zip(rows, seeds, strict=True)]
        source, source_documents = side_by_side([[source for source, _ in row] for row in pairs], self.start)
        targets, _ = side_by_side([[target for _, target in row] for row in pairs], NO_LABEL)
        before = [[np.append(self.start, target[:-1]) for _, target in row] for row in pairs]
        ids, documents = side_by_side(before, self.start)
        read = torch.tensor([int((row.targets != NO_LABEL).sum()) for row in rows])
        return Batch(
            ids, targets, documents, [row.origin for row in rows], source=source, source_documents=source_documents, read=read
        )

    def corrupt(self, row: Row, seed: int) -> list[tuple[Ids, Ids]]:
        """Source and target of each piece of a row."""
        rng = np.random.default_rng(seed)
        return [self.hide(piece, rng) for piece in pieces(row, self.bos, self.eos)]

    def hide(self, piece: Piece, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """Source and target of one piece. A piece without text hides nothing, and its target says so."""
        text, end = piece.text, [] if self.eos is None else [self.eos]
        hidden, spans = self.counts(len(text))
        shown = _parts(len(text) - hidden + 2, spans + 1, rng)
        shown[0] -= 1  # nothing need stand before the first stretch, nor behind the last
        shown[-1] -= 1
        cuts = np.cumsum(np.stack([shown[:-1], _parts(hidden, spans, rng)], axis=1).ravel())
        *stretches, rest = np.split(text, cuts)
        source = [part for mark, seen in enumerate(stretches[::2]) for part in (seen, self.marks[mark : mark + 1])]
        target = [part for mark, gone in enumerate(stretches[1::2]) for part in (self.marks[mark : mark + 1], gone)]
        last = self.marks[spans : spans + 1]
        return np.concatenate([*source, rest, end]).astype(np.int64), np.concatenate([*target, last, end]).astype(np.int64)

    def counts(self, tokens: int) -> tuple[int, int]:
        """Tokens hidden of so many, and in how many stretches."""
        if tokens == 0:
            return 0, 0
        hidden = min(max(1, round(tokens * self.config.rate)), max(1, tokens - 1))
        spans = min(max(1, round(hidden / self.config.mean_span)), tokens - hidden + 1)
        return hidden, spans

    def _source_length(self, tokens: int) -> int:
        hidden, spans = self.counts(tokens)
        return tokens - hidden + spans + 1

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        assert batch.source is not None
        source_BSD = model.encode(batch.source, documents_BS=batch.source_documents)
        hidden_BTD = model.hidden(
            begun(batch, model.config.decoder_start_token_id), source_BSD=source_BSD, documents_BT=batch.documents,
            source_documents_BS=batch.source_documents,
        )  # fmt: skip
        loss: Tensor = model.cross_entropy_sum(hidden_BTD.flatten(0, 1), batch.targets.flatten())
        return loss


def _parts(total: int, count: int, rng: np.random.Generator) -> Ids:
    """Lengths, each at least one, of `count` parts of `total`: every way of cutting is as likely."""
    if count == 0:
        return np.zeros(0, np.int64)
    cuts = np.sort(rng.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
