"""What may come next in one answer: the protocol of constraints (JSON schema, regular expression, choices, grammar).

Compiled off the engine's thread (constrain/), asked by the engine before each choice of a token.
"""

from typing import Protocol, Self

import numpy as np


class Constraint(Protocol):
    """Where one answer stands in what it must become."""

    def mask(self) -> np.ndarray:
        """Booleans (V,): which tokens may come next; ends of the text where it may end."""
        ...

    def accept(self, token: int) -> bool:
        """Take in the token that was chosen; True: the text is complete and nothing can follow."""
        ...

    def clone(self) -> Self:
        """A copy that goes its own way: for another choice, or for guesses that may be wrong."""
        ...
