"""How a labelled text becomes tokens: the same for training, judging and use, so that a head meets what it learned from.

A decoder reads the token that begins a document, then the text; an encoder a closing token besides. Between a question and
its context stands the closing token. Words with tags are encoded one by one, so that no token belongs to two of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.data.forms.tags import pieces
from danlu.tokenizer.tokenizer import Tokenizer

Array = NDArray[Any]


@dataclass(frozen=True)
class Reading:
    """A question and a part of its context as tokens."""

    ids: list[int]
    first: int
    """Place of the part's first token."""
    bounds: Array
    """(tokens of the part, 2): where each begins and ends in the whole context, in characters."""


class Frame:
    """Encodes for one model. both_ways: whether it is an encoder. most: tokens that a text may have, all included.

    first: whether a text's first token stands for it, else its last.
    """

    def __init__(self, tokenizer: Tokenizer, both_ways: bool, most: int, first: bool):
        self.tokenizer, self.most, self.first = tokenizer, most, first
        begin, end = tokenizer.bos_id, tokenizer.eos_id
        if both_ways:
            begin, end = _special(tokenizer, "cls_token", begin), _special(tokenizer, "sep_token", end)
        self.begin = [] if begin is None else [begin]
        self.end = [end] if both_ways and end is not None else []
        self.between = tokenizer.encode("\n\n") if end is None else [end]
        self._blank = next((one for one in (_special(tokenizer, "unk_token", None), begin, end) if one is not None), 0)

    @property
    def room(self) -> int:
        """Tokens of text itself."""
        return self.most - len(self.begin) - len(self.end)

    def text(self, text: str) -> list[int]:
        """A whole text, however long."""
        return self.framed(self.tokenizer.encode(text))

    def framed(self, ids: Sequence[int]) -> list[int]:
        """Tokens between those that begin and end; never empty."""
        return [*self.begin, *ids, *self.end] or [self._blank]

    def words(self, words: Sequence[str]) -> list[list[int]]:
        """The tokens of each word, at least one; blanks between words belong to the word after them."""
        return [self.tokenizer.encode(piece) or [self._blank] for piece in pieces(words)]

    def parts(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Words of these sizes in stretches that fit, as many as possible in each: (first word, last word and one).

        A word that is too long alone makes a stretch that does not fit.
        """
        found, start, held = [], 0, 0
        for place, size in enumerate(sizes):
            if place > start and held + size > self.room:
                found.append((start, place))
                start, held = place, 0
            held += size
        return [*found, (start, len(sizes))] if sizes else []

    def readings(self, question: str, context: str) -> list[Reading]:
        """The question with all of the context, or with stretches that overlap by half where it does not fit.

        Empty where the question leaves no room.
        """
        asked = [*self.tokenizer.encode(question), *self.between]
        ids, bounds = self.bounded(context)
        first = len(self.begin) + len(asked)
        room = self.most - first - len(self.end)
        if room < 1:
            return []
        starts = range(0, max(len(ids) - room, 0) + 1, max(room // 2, 1))
        starts = [*starts] if not ids or starts[-1] + room >= len(ids) else [*starts, len(ids) - room]
        return [Reading(self.framed([*asked, *ids[at : at + room]]), first, bounds[at : at + room]) for at in starts]

    def bounded(self, text: str) -> tuple[list[int], Array]:
        """Tokens of a text and the characters [start, end) that each stands for, (T, 2)."""
        ids = self.tokenizer.encode(text)
        sizes = [len(self.tokenizer.token_bytes(token)) for token in ids] if self.tokenizer.joins_bytes else []
        if ids and sum(sizes) == len(text.encode()):
            ends = np.cumsum(sizes)
            letter = np.repeat(np.arange(len(text)), [len(one.encode()) for one in text])  # the character of each byte
            return ids, np.stack([letter[ends - sizes], letter[ends - 1] + 1], 1)
        found = self.tokenizer.reference.encode(text, add_special_tokens=False)
        return list(found.ids), np.array(found.offsets, np.int64).reshape(-1, 2)


def _special(tokenizer: Tokenizer, role: str, otherwise: int | None) -> int | None:
    """The id of a token by its role in tokenizer_config.json."""
    said = tokenizer.config.get(role)
    name = said["content"] if isinstance(said, dict) else said
    return tokenizer.vocab.get(name, otherwise) if name else otherwise
