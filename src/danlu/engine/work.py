"""What the engine asks of a runner: a step is a list of pieces, each a few tokens of one sequence, and nothing else.

There is no reading phase and no writing phase: a piece may be part of a prompt, the one token chosen last, or guesses to be
checked; a runner computes all pieces of a step together. V vocabulary, T tokens of a piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Piece:
    """The next tokens of one sequence."""

    row: int
    """Which sequence: a number that is its own from its first token to its last."""
    ids: np.ndarray
    """int64 (T,), T >= 1."""
    start: int
    """Tokens of the sequence that the runner holds already: the place of ids[0]."""
    blocks: np.ndarray
    """int32: the blocks of the sequence in order, enough for start + T tokens; empty for runners without blocks."""
    want: int
    """Logits are wanted of the last `want` tokens, 0 to T."""
    adapter: str | None = None
    """Name of the adapter that the sequence uses; None: the model as it is."""


class Runner(Protocol):
    """Computes pieces. Only the engine's thread calls it."""

    vocab_size: int
    context: int
    block_tokens: int
    """Tokens of a block; 0: this runner keeps a memory for each row, and nothing can be shared between them."""
    blocks: int
    """How many blocks there are in all; 0 without blocks."""
    whole_prompts: bool
    """Whether a prompt must come in one piece, because its tokens see one another both ways."""
    kernel: str
    """What computes, in words: part of the fingerprint, because other kernels round otherwise."""

    def run(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """Take in all pieces; for each its logits, float32 (want, V).

        A sequence's logits depend on its own tokens alone: not on its neighbours and not on how its tokens were cut into
        pieces, to the last bit where `kernel` says "exact". An exception names the row at fault where it can (RowFault).
        """
        ...

    def rewind(self, row: int, length: int) -> bool:
        """Go back to `length` tokens of a row (guesses that were wrong). False: it cannot, and the row must be read anew."""
        ...

    def forget(self, row: int) -> None:
        """A row has ended; its memory may be used again."""
        ...


class RowFault(Exception):
    """One row cannot be computed; the others can."""

    def __init__(self, row: int, why: str):
        super().__init__(why)
        self.row = row
