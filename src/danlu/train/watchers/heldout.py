"""Measures the model on held-out documents while it learns: nats per token and bits per byte."""

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from danlu.core import log
from danlu.core.settings import Named
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher, due

if TYPE_CHECKING:
    from danlu.data.tokens import TokenSet
    from danlu.objectives.base import Batch
    from danlu.train.loop import Run


_FEWEST = 5000  # tokens: fewer say little


@WATCHERS.register
class Heldout(Watcher):
    """Whole held-out documents, the same ones each time; nats of their tokens and eos over the bytes of their text."""

    class Config(Named):
        """How often, and on how much."""

        name: Literal["heldout"] = "heldout"
        every: int = Field(0, ge=0)
        """Steps between two measurements; 0: `times` over the run."""
        times: int = Field(10, ge=1)
        """Measurements over the run when `every` is 0."""
        tokens: int = Field(0, ge=0)
        """Held-out tokens that a measurement reads, in whole documents; 0: one for 150 tokens of the run, about two per cent
        of its time in all, and 5,000 or more."""

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        at_step = facts.step % self.config.every == 0 if self.config.every else due(facts.step, run.steps, self.config.times)
        if at_step or facts.step >= run.steps:
            planned = run.horizon.planned * run.batches.rows * run.batches.packer.row_tokens
            self.measure(run, self.config.tokens or max(planned // 150, _FEWEST))

    def measure(self, run: "Run", most: int) -> None:
        """Score held-out documents in all processes together and tell."""
        if self.tools.heldout is None:
            return
        started = time.monotonic()
        documents = choose(self.tools.heldout, most)
        batches = run.batches
        rows = pack(self.tools.heldout, documents, batches.packer.row_tokens, batches.micro_rows * batches.size)
        nats, targets = score(run, rows)
        size = int(self.tools.heldout.text_bytes[documents].sum())
        figures = {"step": run.step, "tokens": run.done.tokens, "loss": nats / targets,
                   "bits_per_byte": nats / math.log(2) / max(size, 1),
                   "seconds": run.seconds, "documents": len(documents), "targets": int(targets)}  # fmt: skip
        run.done.heldout = {**figures, "last_s": time.monotonic() - started}
        if not run.done.best or figures["loss"] <= run.done.best["loss"]:
            run.done.best = run.done.heldout
        if run.world.first:
            log.emit("heldout", **figures)


def choose(tokens: "TokenSet", most: int) -> np.ndarray:
    """Documents that hold about `most` tokens: from the whole set evenly, the same at each call."""
    order = np.random.default_rng(0).permutation(len(tokens))
    count = int(np.searchsorted(np.cumsum(tokens.lengths[order]), most, side="right"))
    return np.sort(order[: max(count, 1)])


def pack(tokens: "TokenSet", documents: np.ndarray, row_tokens: int, rows: int) -> Iterator["Batch"]:
    """Documents end to end in batches of `rows` rows; what the last rows lack has no label (-100)."""
    import torch

    from danlu.objectives.base import Batch

    room = rows * row_tokens
    stored = [tokens.document(int(document)) for document in documents]
    columns = [
        np.concatenate([part[:-1] for part in stored]).astype(np.int64),
        np.concatenate([part[1:] for part in stored]).astype(np.int64),
        np.repeat(np.arange(len(stored)), [max(len(part) - 1, 0) for part in stored]).astype(np.int32),
    ]
    for start in range(0, len(columns[0]), room):
        blank = np.full(room, -100, np.int64), np.zeros(room, np.int64), np.full(room, len(stored), np.int32)
        targets, ids, numbers = blank
        for into, column in zip((ids, targets, numbers), columns):
            part = column[start : start + room]
            into[: len(part)] = part
        shape = (rows, row_tokens)
        yield Batch(*(torch.from_numpy(part.reshape(shape)) for part in (ids, targets, numbers)), origin=[])


def score(run: "Run", batches: Iterator["Batch"]) -> tuple[float, float]:
    """Nats and targets over all processes, each scoring its rows."""
    import torch

    nats = targets = 0.0
    model = run.parallel.model
    model.eval()
    with torch.no_grad():
        for batch in batches:
            mine = _share(batch, run.world.rank, run.world.size)
            nats += float(run.parallel.loss_sum(mine))
            targets += mine.target_count
    model.train()
    nats, targets = run.world.sum([nats, targets])
    return nats, targets


def _share(batch: "Batch", rank: int, size: int) -> "Batch":
    from danlu.objectives.base import Batch

    assert batch.documents is not None
    return Batch(*(part.tensor_split(size)[rank] for part in (batch.ids, batch.targets, batch.documents)), origin=[])
