"""Sequence to sequence (Sutskever et al. 2014, arXiv:1409.3215): the encoder reads a prompt, the decoder writes its answer.

Learns from samples with a prompt and an answer (`danlu prepare --form.name answers`). Rows hold whole pairs, each isolated from
the others; the loss is that of the answer and its end, given the prompt.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from danlu.core.errors import BadInput, BadSettings
from danlu.core.settings import Named
from danlu.data.pack import Row, WholePacker
from danlu.data.shards import Document
from danlu.data.tokens import TokenSet
from danlu.objectives import OBJECTIVES
from danlu.objectives.pieces import Ids, pieces
from danlu.objectives.rewriting import Rewriting
from danlu.tokenizer.frame import frame
from danlu.tokenizer.tokenizer import Tokenizer


@OBJECTIVES.register
class Seq2Seq(Rewriting):
    """What translators and summarisers are trained with."""

    whole = True
    fields = ("prompt", "answer")

    class Config(Named):
        name: Literal["seq2seq"] = "seq2seq"  # type: ignore[assignment]  # narrows

    def __init__(self, config: Named, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        if self.eos is None:
            raise BadSettings("--objective.name seq2seq ends prompts and answers with the tokenizer's eos token; it has none.")
        self.before, self.after = (np.array(part, np.int64) for part in frame(self.words))

    def take(self, document: Document) -> Any:
        return tuple(document.sample[column] for column in self.fields)

    def encode_batch(self, taken: Sequence[Any]) -> list[Ids]:
        """Prompt, the token after a document, answer: text never becomes that token, so the first one parts them."""
        prompts, answers = (self.words.encode_batch([pair[side] for pair in taken]) for side in (0, 1))
        return [np.concatenate([prompt, [self.eos], answer]) for prompt, answer in zip(prompts, answers, strict=True)]

    def reads(self, row_tokens: int) -> int:
        """A row's prompts and answers together: each side may fill a row."""
        return 2 * row_tokens

    def packer(self, tokens: TokenSet, row_tokens: int, seed: int) -> WholePacker:
        return WholePacker(tokens, self.reads(row_tokens), seed)

    def check(self, tokens: TokenSet, row_tokens: int) -> None:
        """Raise BadInput where a prompt or an answer does not fit a row: no pair is cut."""
        longest, long = 0, []
        for index in np.flatnonzero(tokens.lengths > row_tokens):
            source, target = self.pair(tokens.document(int(index)).astype(np.int64)[self.bos is not None :])
            if (most := max(len(source), len(target))) > row_tokens:
                longest = max(longest, most)
                long.append(int(index))
        if long:
            place = tokens.origin(long[0])
            raise BadInput(
                f"{len(long):,} of {len(tokens):,} pairs have a prompt or an answer longer than a row of {row_tokens} tokens; "
                f"the longest has {longest}, the first is {place.path}:{place.line}. Set --row_tokens {longest}, or leave "
                f"such pairs out of the data: a pair is never cut."
            )

    def pair(self, ids: Ids) -> tuple[Ids, Ids]:
        """Source and target of a stored pair without the token before it."""
        at = int(np.flatnonzero(ids == self.eos)[0])
        end = len(ids) - 1 if int(ids[-1]) == self.eos and len(ids) - 1 > at else len(ids)
        return np.concatenate([self.before, ids[:at], self.after]), np.append(ids[at + 1 : end], self.eos)

    def pairs(self, row: Row, seed: int) -> list[tuple[Ids, Ids]]:
        return [self.pair(piece.ids[self.bos is not None :]) for piece in pieces(row, self.bos, self.eos)]
