"""Filling in the middle (Bavarian et al. 2022, arXiv:2207.14255): some texts are told prefix, suffix, middle.

A causal model learns to write what stands between two texts, as an editor at a cursor asks. A share of the pieces is cut in
three at two characters and rearranged, in one of two orders (section 3): prefix, suffix, middle (PSM), or suffix, prefix,
middle (SPM), whose prefix and middle join as they would in ordinary text. The cut falls between characters, not tokens, and
each part is tokenised by itself, as it will be when somebody asks. A piece whose tokens are not what its text gives (its
ends cut a character in two), or that would outgrow the row, is cut between tokens instead. The token after a document ends
every middle.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from danlu.core.errors import BadSettings
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.pack import Row
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch, Objective
from danlu.objectives.pieces import Ids, Piece, pieces, side_by_side
from danlu.tokenizer.tokenizer import Tokenizer

PREFIX, MIDDLE, SUFFIX = "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"
GROWTH = 4
"""Most tokens that rearranging adds to a piece: three marks and an end."""


@OBJECTIVES.register
class FIM(Objective):
    """What models of code learn beside going on."""

    kind = "CausalLM"
    family = "qwen3"
    special_tokens = (PREFIX, MIDDLE, SUFFIX)
    of_text = False

    class Config(Named):
        name: Literal["fim"] = "fim"  # type: ignore[assignment]  # narrows
        rate: float = Field(0.5, ge=0, le=1)
        """Share of the pieces that are rearranged; the others are read as they stand."""
        spm: float = Field(0.5, ge=0, le=1)
        """Of those, the share told suffix, prefix, middle; the others are told prefix, suffix, middle."""

    def __init__(self, config: Named, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        assert tokenizer is not None, "the parts are told apart by tokens of the tokenizer"
        self.words = tokenizer
        self.bos, self.eos, self.fill = tokenizer.bos_id, tokenizer.eos_id, tokenizer.start_id
        if self.eos is None:
            raise BadSettings("--objective.name fim ends every middle with the tokenizer's eos token, and it has none.")
        self.prefix, self.middle, self.suffix = (tokenizer.special_tokens[name] for name in (PREFIX, MIDDLE, SUFFIX))

    def reads(self, row_tokens: int) -> int:
        """A row that is one piece fits with its marks. Raises BadSettings for rows that hold little but marks."""
        if row_tokens < 2 * GROWTH:
            raise BadSettings(f"--objective.name fim needs --row_tokens {2 * GROWTH} or more, not {row_tokens}.")
        return row_tokens - GROWTH

    def batch(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        told = [self.rearrange(row, seed) for row, seed in zip(rows, seeds, strict=True)]
        ids, documents = side_by_side([[piece[:-1] for piece in row] for row in told], self.fill)
        targets, _ = side_by_side([[piece[1:] for piece in row] for row in told], NO_LABEL)
        read = torch.tensor([int((row.targets != NO_LABEL).sum()) for row in rows])
        return Batch(ids, targets, documents, [row.origin for row in rows], read=read)

    def rearrange(self, row: Row, seed: int) -> list[Ids]:
        """The pieces of a row as they will be told."""
        rng, most = np.random.default_rng(seed), len(row.ids) + GROWTH + 1
        chosen = pieces(row, self.bos, self.eos)
        return [self.tell(piece, rng, most) if rng.random() < self.config.rate else piece.ids for piece in chosen]

    def tell(self, piece: Piece, rng: np.random.Generator, most: int) -> Ids:
        """A piece in three parts, in `most` tokens or fewer; every pair of cuts is as likely."""
        text = piece.ids[int(piece.begins) : len(piece.ids) - piece.ends]
        begin = piece.ids[: int(piece.begins)]
        first, last, spm = *rng.random(2), rng.random() < self.config.spm
        low, high = min(first, last), max(first, last)
        told = self._order(begin, *self._by_characters(text, low, high), spm=spm)
        return told if len(told) <= most else self._order(begin, *_cut(text, low, high), spm=spm)

    def _by_characters(self, ids: Ids, low: float, high: float) -> Sequence[Ids]:
        """Prefix, middle and suffix, each tokenised by itself."""
        text = self.words.decode(ids.tolist())
        if not np.array_equal(self.words.encode_array(text), ids):
            return _cut(ids, low, high)
        return [self.words.encode_array(part) for part in _cut(text, low, high)]

    def _order(self, begin: Ids, before: Ids, middle: Ids, after: Ids, *, spm: bool) -> Ids:
        marked = (
            [[self.prefix, self.suffix], after, [self.middle], before, middle]
            if spm
            else [[self.prefix], before, [self.suffix], after, [self.middle], middle]
        )
        return np.concatenate([begin, *marked, [self.eos]]).astype(np.int64)

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
        loss: Tensor = model.cross_entropy_sum(hidden_BTD.flatten(0, 1), batch.targets.flatten())
        return loss


def _cut(whole: Any, low: float, high: float) -> tuple[Any, Any, Any]:
    """Three parts of a text or of tokens; low and high in [0, 1) choose among all places, both ends included."""
    one, two = int(low * (len(whole) + 1)), int(high * (len(whole) + 1))
    return whole[:one], whole[one:two], whole[two:]
