"""What the engine tells about a request, in order: tokens, then one end for each choice.

The engine speaks of ids; text, stop texts and formats are made elsewhere (answer.py), off its thread.
"""

from dataclasses import dataclass
from typing import Literal

Reason = Literal["eos", "stop", "length", "cancelled"]
"""eos: the model ended it. stop: a stop text or a finished constraint. length: max_tokens or the context."""


@dataclass(frozen=True)
class TokenEvent:
    """One token was chosen."""

    choice: int
    token: int
    logprob: float | None = None
    """Natural logarithm of its probability before sampling changed it; None: not asked for."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens with theirs, likeliest first; of equals smaller ids first."""


@dataclass(frozen=True)
class PromptEvent:
    """The prompt has been read; comes before the first token."""

    prompt_tokens: int
    cached_tokens: int
    """Of these, how many were found in blocks that an earlier request had left."""
    logprobs: tuple[tuple[float | None, tuple[tuple[int, float], ...]], ...] | None = None
    """For each prompt token its log-probability (None for the first) and the likeliest instead; None: not asked for."""


@dataclass(frozen=True)
class EndEvent:
    """A choice has ended."""

    choice: int
    reason: Reason


@dataclass(frozen=True)
class FaultEvent:
    """The request failed; nothing follows. `mine` is a sentence for its sender; details are in the log."""

    kind: Literal["deadline", "shutdown", "capacity", "request", "internal"]
    """request: what was asked has no answer, because its constraint and its biases leave no token."""
    message: str


Event = TokenEvent | PromptEvent | EndEvent | FaultEvent
