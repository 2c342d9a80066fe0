"""Who computes how many tokens in the next step: one budget for all, whatever the tokens are for.

Sequences that need one token each come first, in order of admission, then what is left of the budget reads prompts, oldest
first. A sequence that finds no block takes them from the one admitted last, which starts again later (recomputation). Waiting
requests are admitted by owner, the one with the fewest running sequences first, so that no one waits behind a flood.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from danlu.engine.blocks import BlockPool
from danlu.engine.sequence import Sequence


@dataclass(frozen=True)
class Limits:
    """What a step and a machine can take."""

    rows: int
    """Sequences that run together at most."""
    batch_tokens: int
    """Tokens of a step at most."""
    waiting: int
    """Sequences that wait at most; more are refused."""


class Scheduler:
    """Queues of sequences; knows nothing of models."""

    def __init__(self, limits: Limits, pool: BlockPool | None, whole_prompts: bool = False,
                 forget: Callable[[int], None] = lambda row: None):  # fmt: skip
        """forget: told each row that is given back, so that the runner can drop what it remembers of it."""
        self.limits, self.pool, self._whole, self._forget = limits, pool, whole_prompts, forget
        self.running: list[Sequence] = []
        self._waiting: OrderedDict[str, deque[Sequence]] = OrderedDict()
        self._rows = list(range(limits.rows - 1, -1, -1))
        self.preemptions = 0

    @property
    def waiting(self) -> int:
        """Sequences in the queues."""
        return sum(map(len, self._waiting.values()))

    def add(self, sequence: Sequence, first: bool = False) -> None:
        """Put a sequence into its owner's queue."""
        queue = self._waiting.setdefault(sequence.ticket.job.owner, deque())
        (queue.appendleft if first else queue.append)(sequence)

    def remove(self, sequence: Sequence) -> None:
        """A sequence has ended, wherever it is. Its row, if it has one, is free after this."""
        if sequence in self.running:
            self.running.remove(sequence)
        queue = self._waiting.get(sequence.ticket.job.owner)
        if queue and sequence in queue:
            queue.remove(sequence)
            if not queue:  # an owner in the line has something to admit
                del self._waiting[sequence.ticket.job.owner]
        if self.pool:
            sequence.drop(self.pool)
        self._give_back(sequence)

    def everything(self) -> list[Sequence]:
        """All sequences, running ones first."""
        return self.running + [sequence for queue in self._waiting.values() for sequence in queue]

    def plan(self) -> list[tuple[Sequence, int]]:
        """The next step: sequences with the number of their tokens. Blocks for these are held when this returns."""
        self._admit()
        left, planned = self.limits.batch_tokens, {}
        order = sorted(self.running, key=lambda one: one.reading)  # stable: the order of admission within each
        for sequence in order:
            wanted = sequence.pending
            count = wanted if wanted <= left or (self._whole and sequence.held == 0) else left
            if count <= 0 or sequence not in self.running:  # no budget, or preempted by one before it
                continue
            if count < wanted:
                sequence.drafts = sequence.drafts[:0]
                count = min(count, sequence.pending)
            if not self._room(sequence, sequence.held + count, planned):
                continue
            planned[sequence] = count
            left -= count
        return [(sequence, planned[sequence]) for sequence in self.running if sequence in planned]

    def _admit(self) -> None:
        while self._rows and (owner := self._next_owner()) is not None:
            sequence = self._waiting[owner][0]
            if self.pool:
                sequence.find(self.pool)
                if self.running and self.pool.needed(sequence.length + 1) - len(sequence.blocks) > self.pool.free:
                    sequence.drop(self.pool)
                    return
                if not sequence.counted:
                    sequence.counted = True
                    self.pool.count(sequence.prompt, sequence.held)
            self._waiting[owner].popleft()
            self._waiting.move_to_end(owner)
            if not self._waiting[owner]:
                del self._waiting[owner]
            sequence.row = self._rows.pop()
            self.running.append(sequence)

    def _next_owner(self) -> str | None:
        """Of the owners who wait, the one with the fewest running sequences; of equals the one served longest ago."""
        if not self._waiting:
            return None
        runs = dict.fromkeys(self._waiting, 0)
        for sequence in self.running:
            if sequence.ticket.job.owner in runs:
                runs[sequence.ticket.job.owner] += 1
        return min(runs, key=lambda owner: runs[owner])

    def _room(self, sequence: Sequence, tokens: int, planned: dict[Sequence, int]) -> bool:
        if self.pool is None:
            return True
        while not sequence.grow(self.pool, tokens):
            victim = next((one for one in reversed(self.running) if one is not sequence and one not in planned), None)
            if victim is None or self.running.index(victim) < self.running.index(sequence):
                return False  # those before it go first; it waits with what it has
            self.preempt(victim)
        return True

    def preempt(self, sequence: Sequence) -> None:
        """Take a running sequence's blocks; it waits at the front of its queue and is read again, answer included."""
        assert self.pool is not None
        self.preemptions += 1
        self.running.remove(sequence)
        sequence.drop(self.pool)
        self._give_back(sequence)
        self.add(sequence, first=True)

    def _give_back(self, sequence: Sequence) -> None:
        if sequence.row >= 0:
            self._forget(sequence.row)
            self._rows.append(sequence.row)
            sequence.row = -1
