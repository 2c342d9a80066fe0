"""Guessing ahead: cheap guesses at the next tokens, which the model checks all at once (arXiv:2211.17192), changing no answer.

    Drafter.propose(row, ids, most) -> int64 (0 .. most,)     guesses at what follows `ids` (prompt and answer so far)
    Drafter.forget(row)                                       a row has ended
    Lookup(least=2, longest=16)                               copies what followed the same words before (prompt lookup)
    DraftModel(runner, known)                                 a smaller model's likeliest tokens; has rows and blocks of its own
    Gated(drafter, prices)                                    a drafter that is silent where guessing does not pay
    prices(runner) -> Prices | None                           what steps of so many tokens cost; None: no guess can be taken back
    opened(runner, known, most, draft=None) -> Drafter | None what an engine should use: None where guessing cannot pay

The engine reads the guesses behind the last token in one piece, chooses at each place with that place's own (seed, step), and
goes on while the choice equals the guess. A choice never depends on a guess, so answers are the same token for token, whatever
the temperature, the form they are held to and the drafter; a bad drafter only costs time.
"""

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from danlu.core import log
from danlu.engine.blocks import BlockPool
from danlu.engine.work import Piece, Runner

NOTHING = np.empty(0, np.int64)
"""No guess."""


class Drafter(Protocol):
    """What guesses. Only the engine's thread calls it."""

    def propose(self, row: int, ids: np.ndarray, most: int) -> np.ndarray:
        """At most `most` guesses at what follows `ids` in this row, int64; none where there is nothing to go by."""
        ...

    def forget(self, row: int) -> None:
        """A row has ended or will be read anew."""
        ...


@dataclass(frozen=True)
class Lookup:
    """What followed the last words when they stood earlier in the text (prompt lookup, arXiv:2304.04487): good at quoting."""

    least: int = 2
    """Tokens that must be the same before a guess is made."""
    longest: int = 16
    """Tokens that are compared at most; of places equally alike the latest is taken."""

    def propose(self, row: int, ids: np.ndarray, most: int) -> np.ndarray:
        """See Drafter. A text that repeats itself is guessed to go on doing so.

        >>> Lookup().propose(0, np.array([7, 1, 2, 3, 9, 1, 2]), 4)
        array([3, 9, 1, 2])
        """
        size = len(ids)
        if most < 1 or size <= self.least:
            return NOTHING
        places = np.flatnonzero(ids[: size - 1] == ids[-1])
        for length in range(1, self.longest):
            if not len(places):
                return NOTHING
            alike = places[places >= length]
            alike = alike[ids[alike - length] == ids[size - 1 - length]]
            if not len(alike):
                if length < self.least:
                    return NOTHING
                break
            places = alike
        after = ids[places[-1] + 1 :]
        return np.resize(after, most)  # from the end of the text on, again from its beginning

    def forget(self, row: int) -> None:
        """See Drafter. It remembers nothing."""


class DraftModel:
    """The likeliest next tokens of a smaller model with the same tokenizer."""

    def __init__(self, runner: Runner, known: int):
        """known: tokens of the tokenizer; rows of logits beyond are padding."""
        self._runner, self._known = runner, known
        self._pool = BlockPool(runner.blocks, runner.block_tokens) if runner.blocks else None
        self._held: dict[int, np.ndarray] = {}
        self._blocks: dict[int, list[int]] = {}

    def propose(self, row: int, ids: np.ndarray, most: int) -> np.ndarray:
        """See Drafter. Silent where the text has become longer than its context, or its blocks are all taken."""
        most = min(most, self._runner.context - len(ids))
        held = self._back(row, ids)
        if most < 1 or not self._room(row, len(ids) + most):
            return NOTHING
        drafts: list[int] = []
        fresh = ids[held:]
        while True:
            blocks = np.array(self._blocks.get(row, []), np.int32)
            (logits_1V,) = self._runner.run([Piece(row, fresh, held, blocks, 1)])
            held += len(fresh)
            drafts.append(int(logits_1V[0, : self._known].argmax()))
            if len(drafts) == most:
                break
            fresh = np.array(drafts[-1:], np.int64)
        self._held[row] = np.concatenate([ids, np.array(drafts[:-1], np.int64)])
        return np.array(drafts, np.int64)

    def forget(self, row: int) -> None:
        """See Drafter."""
        self._held.pop(row, None)
        if self._pool:
            self._pool.release(self._blocks.pop(row, []))
        self._runner.forget(row)

    def _back(self, row: int, ids: np.ndarray) -> int:
        """Go back to what the row's memory has in common with the text, less its last token; how much that is."""
        held = self._held.get(row, NOTHING)
        shared = min(len(held), len(ids) - 1)
        unlike = np.flatnonzero(held[:shared] != ids[:shared])
        shared = int(unlike[0]) if len(unlike) else shared
        if shared < len(held) and not (self._pool or self._runner.rewind(row, shared)):
            self._runner.forget(row)
            shared = 0
        self._held[row] = held[:shared]
        return shared

    def _room(self, row: int, tokens: int) -> bool:
        if not self._pool:
            return True
        blocks = self._blocks.setdefault(row, [])
        more = self._pool.take(max(0, self._pool.needed(tokens) - len(blocks)))
        blocks += more or []
        return more is not None


def best_count(rate: float, costs: Sequence[float]) -> int:
    """How many guesses pay best: 0 where none does.

    rate: the chance that a guess is right, given that those before it were; costs[k]: time of a step with k guesses over that
    of a step with none. A step with k guesses yields 1 + rate + ... + rate ** k tokens.

    >>> best_count(0.9, [1, 1.1, 1.2, 1.3]), best_count(0.3, [1, 1.1, 1.2, 1.3]), best_count(0.3, [1, 1.6, 2.2])
    (3, 1, 0)
    """
    yields = np.cumsum(np.power(float(rate), np.arange(len(costs))))
    return int((yields / np.asarray(costs, float)).argmax())


@dataclass(frozen=True)
class Prices:
    """What a step costs by how many tokens it computes, of all rows together."""

    tokens: tuple[int, ...]
    """Sizes of steps that were measured, ascending from 1."""
    seconds: tuple[float, ...]

    def costs(self, rows: int, most: int) -> np.ndarray:
        """Time of a step of `rows` rows with k guesses each over that of one with none, for k = 0 .. most.

        Straight lines between what was measured, and on beyond.

        >>> Prices((1, 2, 8), (1.0, 1.1, 1.7)).costs(2, 3)
        array([1.        , 1.18181818, 1.36363636, 1.54545455])
        """
        steps = max(rows, 1) * np.arange(1, most + 2)
        times = np.interp(steps, self.tokens, self.seconds)
        slope = (self.seconds[-1] - self.seconds[-2]) / (self.tokens[-1] - self.tokens[-2])
        times = times + np.maximum(steps - self.tokens[-1], 0) * slope
        return times / times[0]


_DOUBT = 4.0
"""How many guesses a row's first opinion is worth."""
_MEMORY = 0.9
"""What is left of what was learned when a row guesses once more: a text that stops repeating itself is noticed soon."""
_AGAIN = 32
"""A silent row guesses once in so many tokens: a text may begin to repeat itself."""


@dataclass
class _Row:
    right: float
    tried: float
    length: int = 0
    guesses: np.ndarray = field(default_factory=lambda: NOTHING)
    silent: int = 0


class Gated:
    """A drafter that guesses as many tokens as pay, judged by how many were right in this row, and none where none do."""

    def __init__(self, drafter: Drafter, prices: Prices, rate: float = 0.6):
        """rate: what is believed of a new row."""
        self._drafter, self._prices, self._rate = drafter, prices, rate
        self._rows: dict[int, _Row] = {}
        self._failed = False

    def propose(self, row: int, ids: np.ndarray, most: int) -> np.ndarray:
        """See Drafter."""
        state = self._rows.setdefault(row, _Row(self._rate * _DOUBT, _DOUBT))
        self._learn(state, ids)
        count = best_count(state.right / state.tried, self._prices.costs(len(self._rows), most))
        if count == 0:
            state.silent += 1
            count = 1 if state.silent % _AGAIN == 0 else 0
        state.length, state.guesses = len(ids), self._guessed(row, ids, min(count, most))
        return state.guesses

    def _guessed(self, row: int, ids: np.ndarray, count: int) -> np.ndarray:
        """A drafter that fails is asked no more: answers need no guesses."""
        if not count or self._failed:
            return NOTHING
        try:
            return self._drafter.propose(row, ids, count)
        except Exception:
            log.warn("guessing ahead failed and stops; answers go on without: " + traceback.format_exc())
            self._failed = True
            return NOTHING

    def forget(self, row: int) -> None:
        """See Drafter."""
        self._rows.pop(row, None)
        self._drafter.forget(row)

    @staticmethod
    def _learn(state: _Row, ids: np.ndarray) -> None:
        """Compare what has been written with what was guessed; what stands behind the first wrong guess was never tried."""
        came = ids[state.length : state.length + len(state.guesses)]
        if len(came):
            same = came == state.guesses[: len(came)]
            right = int(same.argmin()) if not same.all() else len(same)
            tried = min(right + 1, len(state.guesses))
            state.right = state.right * _MEMORY + right
            state.tried = state.tried * _MEMORY + tried


def prices(runner: Runner, sizes: Sequence[int] = (1, 2, 3, 5, 9, 17, 33), read: int = 64, seconds: float = 0.2) -> Prices | None:
    """The least of what is measured within about so many seconds. None where wrong guesses could not be taken back.

    The least, because other work on the machine makes single steps much longer and none shorter. The runner must be idle: the
    row that is used is forgotten, and blocks are written over. read: tokens that stand before.
    """
    sizes = [size for size in sizes if size < runner.context]
    row, read = -2, max(1, min(read, runner.context - sizes[-1]))
    blocks = np.arange(-(-(read + sizes[-1]) // runner.block_tokens) if runner.blocks else 0, dtype=np.int32)
    if len(sizes) < 2 or len(blocks) > runner.blocks:
        return None
    times: list[list[float]] = [[] for _ in sizes]
    ids = np.zeros(read + sizes[-1], np.int64)
    runner.run([Piece(row, ids[:read], 0, blocks, 1)])
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[-1]) < 3:
        for size, some in zip(sizes, times, strict=True):
            start = time.perf_counter()
            runner.run([Piece(row, ids[:size], read, blocks, size)])
            some.append(time.perf_counter() - start)
            if not runner.blocks and not runner.rewind(row, read):
                runner.forget(row)
                return None
    runner.forget(row)
    least = np.maximum.accumulate([min(some) for some in times])  # more tokens never cost less: what says so is noise
    return Prices(tuple(sizes), tuple(least.tolist()))


_EXACT = "exact"
"""The word by which a runner's kernel says that logits do not depend on how tokens are cut into pieces (work.py)."""
_SURE = 0.95
"""A drafter is hardly ever better than this."""


def opened(runner: Runner, known: int, most: int, draft: Runner | None = None) -> Drafter | None:
    """The drafter for an engine that guesses at most `most` tokens: by lookup, or by a smaller model where one is given.

    None where guessing could not pay even with a drafter that is nearly always right, or could change a token: where a
    runner's logits depend, in their last bits, on how many tokens it computes at once.
    """
    if most < 1 or _EXACT not in runner.kernel or (found := prices(runner)) is None:
        return None
    if best_count(_SURE, found.costs(1, most)) == 0:
        return None
    return Gated(DraftModel(draft, known) if draft else Lookup(), found)
