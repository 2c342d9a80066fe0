"""Span corruption (T5, Raffel et al. 2020, arXiv:1910.10683, section 3.1.4): some stretches of a text are hidden, and asked for.

The encoder reads the text with a numbered mark in place of each hidden stretch; the decoder writes the marks with what they
hid, a last mark, and the end. Source and target together hold every token once: nothing is lost. Each piece of a document is
corrupted by itself; a document's end stays in sight.

    text    the cat sat on the mat      source  the <|extra_0|> on the mat      target  <|extra_0|> cat sat <|extra_1|>
"""

from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.errors import BadSettings
from danlu.core.settings import Named
from danlu.data.pack import Row
from danlu.objectives import OBJECTIVES
from danlu.objectives.pieces import Ids, Piece, pieces
from danlu.objectives.rewriting import Rewriting
from danlu.tokenizer.tokenizer import Tokenizer

MARKS = tuple(f"<|extra_{number}|>" for number in range(100))
"""What stands for hidden stretches, in order."""


@OBJECTIVES.register
class Span(Rewriting):
    """What T5 is pre-trained with."""

    special_tokens = MARKS

    class Config(Named):
        name: Literal["span"] = "span"  # type: ignore[assignment]  # narrows
        rate: float = Field(0.15, gt=0, lt=1)
        """Share of the tokens that are hidden."""
        mean_span: float = Field(3.0, ge=1)
        """Mean length of a hidden stretch, tokens."""

    def __init__(self, config: Named, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.marks = np.array([self.words.special_tokens[mark] for mark in MARKS])

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

    def pairs(self, row: Row, seed: int) -> list[tuple[Ids, Ids]]:
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


def _parts(total: int, count: int, rng: np.random.Generator) -> Ids:
    """Lengths, each at least one, of `count` parts of `total`: every way of cutting is as likely."""
    if count == 0:
        return np.zeros(0, np.int64)
    cuts = np.sort(rng.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
