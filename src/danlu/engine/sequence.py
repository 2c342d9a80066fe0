"""One answer being written: its tokens, how many of them the runner holds, and its blocks.

A preempted sequence gives blocks and row back; what it has written stays, and is read again when its turn comes.
"""

from dataclasses import dataclass, field

import numpy as np

from danlu.core.seeds import derive
from danlu.engine.blocks import BlockPool, root_of
from danlu.engine.constraint import Constraint
from danlu.engine.job import Ticket


@dataclass(eq=False)
class Sequence:
    """Choice `choice` of a ticket. Its row is its own from admission until it ends or is preempted."""

    ticket: Ticket
    choice: int
    row: int = -1
    held: int = 0
    """Tokens that the runner remembers."""
    written: int = 0
    """Tokens of the answer."""
    drafts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Guesses behind the last token, to be checked in the next step."""
    blocks: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    """Of the sealed ones among the blocks, in order."""
    cached: int = 0
    """Prompt tokens found in blocks of earlier requests."""
    counted: bool = False
    """Whether what was found of its prompt has been counted: once, however often it waits or is preempted."""
    told: bool = False
    """Whether the prompt has been reported as read."""
    scores: list[tuple[float | None, tuple[tuple[int, float], ...]]] = field(default_factory=list)
    """Of the prompt's tokens, where asked for."""

    def __post_init__(self) -> None:
        job = self.ticket.job
        self.prompt = len(job.ids)
        self.ids = np.empty(self.prompt + max(job.room, 1), np.int64)
        self.ids[: self.prompt] = job.ids
        self.seed = job.sampling.seed if self.choice == 0 else derive(job.sampling.seed, "choice", self.choice)
        self.constraint: Constraint | None = job.constraint.clone() if job.constraint else None
        self.ends = job.ends
        self.scored = job.prompt_logprobs is not None and self.choice == 0
        """Whether the prompt's tokens are given log-probabilities here; none of those may come from the cache."""
        self.root = root_of(job.owner, job.adapter or "")

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return self.prompt + self.written

    @property
    def pending(self) -> int:
        """Tokens, guesses among them, that the runner has not been given."""
        return self.length - self.held + len(self.drafts)

    @property
    def reading(self) -> bool:
        """Whether part of the prompt, or of what was written before a preemption, is still to be read."""
        return self.length - self.held > 1

    def find(self, pool: BlockPool) -> None:
        """Hold the blocks of earlier sequences that begin as this one does."""
        known = self.ids[: self.length if not self.scored or self.told else self.ticket.job.scored_from]
        self.blocks, self.names = pool.find(known, self.root)  # never the last of them, whose logits are wanted
        self.held = len(self.blocks) * pool.block_tokens
        self.cached = max(self.cached, min(self.held, self.prompt)) if not self.told else self.cached

    def grow(self, pool: BlockPool, tokens: int) -> bool:
        """Have blocks for so many tokens in all. False: there are none left."""
        taken = pool.take(max(0, pool.needed(tokens) - len(self.blocks)))
        self.blocks += taken or []
        return taken is not None

    def seal(self, pool: BlockPool) -> None:
        """Name the blocks that have become full."""
        for index in range(len(self.names), self.held // pool.block_tokens):
            before = self.names[-1] if self.names else self.root
            part = self.ids[index * pool.block_tokens : (index + 1) * pool.block_tokens]
            self.names.append(pool.seal(self.blocks[index], before, part))

    def drop(self, pool: BlockPool) -> None:
        """Give all blocks back; what was held has to be read again."""
        pool.release(self.blocks)
        self.blocks, self.names, self.held = [], [], 0
        self.drafts = self.drafts[:0]
