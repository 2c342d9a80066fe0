"""A request to the engine: ids in, `choices` answers out, each event to one listener."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from danlu.engine.constraint import Constraint
from danlu.engine.events import Event
from danlu.engine.request import Sampling


@dataclass(frozen=True)
class Job:
    """What is asked. Text has become ids already; stop texts are watched by the listener, who cancels."""

    ids: tuple[int, ...]
    """The prompt, at least one token."""
    sampling: Sampling
    room: int
    """Most tokens of each answer: `answer_room` has checked it against the context. 0: only read the prompt."""
    ends: frozenset[int] = frozenset()
    """Tokens that end an answer (reason eos)."""
    choices: int = 1
    logprobs: int | None = None
    """Log-probabilities of chosen tokens with so many of the likeliest beside; None: none."""
    prompt_logprobs: int | None = None
    """The same for the tokens of the prompt."""
    scored_from: int = 1
    """The first token of the prompt whose log-probability is wanted, 1 or more; those before have none, and may be found in
    the cache."""
    constraint: Constraint | None = None
    adapter: str | None = None
    owner: str = ""
    """Who asks: shares of the machine and blocks of the cache are kept apart by it."""
    deadline: float | None = None
    """time.monotonic() at which the request fails if it has not ended."""
    source: tuple[int, ...] | None = None
    """What an encoder reads, for encoder-decoders; `ids` then begin the answer."""


@dataclass(eq=False)
class Ticket:
    """A request that was accepted. `cancel` may be called from any thread, at any time, more than once."""

    job: Job
    listener: Callable[[Event], None]
    """Called from the engine's thread; must return at once and never raise."""
    submitted: float = field(default_factory=time.monotonic)
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    _cancelled_choices: set[int] = field(default_factory=set, repr=False)

    def cancel(self, choice: int | None = None) -> None:
        """Stop one choice, or all: within one step its rows and blocks are free. Choices end with reason cancelled."""
        if choice is None:
            self._cancelled.set()
        else:
            self._cancelled_choices.add(choice)  # a set's add is one step for other threads

    def wanted(self, choice: int) -> bool:
        """Whether the choice has not been cancelled."""
        return not self._cancelled.is_set() and choice not in self._cancelled_choices
