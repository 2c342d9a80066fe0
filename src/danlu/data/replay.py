"""Rows of old text among rows of new text: what a model has learned is shown to it again, so that it forgets less.

Source: Ibrahim et al. 2024 (arXiv:2403.08763), section 6.2: a few per cent of the old data keep most of what was known. Row n of
the run is an old one where the whole part of n times the share has just grown, so old rows are spread evenly, and which row
stands where is a function of the seed as without them (pack.py).
"""

from dataclasses import dataclass, replace

import numpy as np

from danlu.data.pack import Packer, Row
from danlu.data.tokens import Origin, TokenSet


@dataclass(frozen=True)
class Both:
    """Documents of two sets under one numbering: the new ones, then the old ones."""

    new: TokenSet
    old: TokenSet

    def __len__(self) -> int:
        return len(self.new) + len(self.old)

    def origin(self, index: int) -> Origin:
        """Where a document came from."""
        return self.new.origin(index) if index < len(self.new) else self.old.origin(index - len(self.new))


class Replay:
    """The rows of a run of which a share is old; it has the face of a Packer. share: old rows of all, above 0 and below 1."""

    def __init__(self, new: Packer, old: Packer, share: float):
        self.new, self.old, self.share = new, old, share
        self.row_tokens, self.seed = new.row_tokens, new.seed
        self.tokens = Both(new.tokens, old.tokens)
        self.pairs_per_epoch = new.pairs_per_epoch
        """Of the new text: what an epoch is counted by."""

    def old_before(self, number: int) -> int:
        """Old rows among the first `number` rows of the run."""
        return int(number * self.share)

    def served(self, number: int) -> Row:
        """The number-th row of the run."""
        before = self.old_before(number)
        if self.old_before(number + 1) == before:
            return self.new.served(number - before)
        row = self.old.served(before)
        return replace(row, origin=row.origin + np.array([[len(self.new.tokens), 0, 0]], np.int64))  # documents are numbered on
