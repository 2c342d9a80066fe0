"""Measures the model on held-out documents while it learns: nats per target, and bits per byte where those are the text's."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from danlu.core import log
from danlu.core.labels import NO_LABEL
from danlu.core.seeds import derive
from danlu.core.settings import Named
from danlu.data.pack import Row, fit, whole_row
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher, due

if TYPE_CHECKING:
    from danlu.data.tokens import TokenSet
    from danlu.objectives.base import Batch
    from danlu.train.loop import Run


_FEWEST = 5000  # tokens: fewer say little
_ENOUGH = 30_000  # tokens: what is said of the finished model


@WATCHERS.register
class Heldout(Watcher):
    """Whole held-out documents, the same ones each time. Bits per byte are the nats of their tokens and eos over the bytes of
    their text, for an objective that asks for all of these."""

    class Config(Named):
        """How often, and on how much."""

        name: Literal["heldout"] = "heldout"
        every: int = Field(0, ge=0)
        """Steps between two measurements; 0: `times` over the run."""
        times: int = Field(10, ge=1)
        """Measurements over the run when `every` is 0; where they lie more than a pass through the text apart, also after the
        first, second, third, fourth, sixth, eighth, twelfth, ... pass: a small text is learned by heart early."""
        tokens: int = Field(0, ge=0)
        """Held-out tokens that a measurement reads, in whole documents; 0: one for 150 tokens of the run and 5,000 or more,
        and after the last step once more one for 20 and 30,000 or more: four per cent of the run's time in all."""

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        if self.config.every:
            at_step = facts.step % self.config.every == 0
        else:
            at_step = due(facts.step, run.steps, self.config.times) or after_pass(run, facts.step, self.config.times)
        if at_step or facts.step >= run.steps:
            self.measure(run, self.config.tokens or max(planned(run) // 150, _FEWEST))

    def finish(self, run: "Run") -> None:
        """What is said of the finished model rests on more documents than the curve, whose points need to be cheap."""
        if not self.config.tokens:
            self.measure(run, max(planned(run) // 20, _ENOUGH), last=True)

    def measure(self, run: "Run", most: int, last: bool = False) -> None:
        """Score held-out documents in all processes together and tell; the last measurement is no point of the curve."""
        if self.tools.heldout is None:
            return
        started = time.monotonic()
        documents = choose(self.tools.heldout, most)
        laid = pack_whole if run.batches.objective.whole else pack
        rows = laid(self.tools.heldout, documents, run.batches.packer.row_tokens)
        objective = run.batches.objective
        nats, targets, beside = score(run, batches(run, rows))
        size = int(self.tools.heldout.text_bytes[documents].sum())
        bits = {"bits_per_byte": nats / math.log(2) / max(size, 1)} if objective.of_text else {}
        means = {name: value / targets for name, value in beside.items()}
        figures = {"step": run.done.taken or run.step, "tokens": run.done.tokens, "loss": nats / targets, "unit": objective.unit,
                   **bits, **means, "seconds": run.seconds, "documents": len(documents), "targets": int(targets)}  # fmt: skip
        to_come = 1 if self.config.tokens else 1 + max(planned(run) // 20, _ENOUGH) / most
        run.done.heldout = {**figures, "last_s": (time.monotonic() - started) * to_come}
        if not last and (not run.done.best or figures["loss"] <= run.done.best["loss"]):
            run.done.best = run.done.heldout
        if run.world.first:
            log.emit("heldout_final" if last else "heldout", **figures)


def after_pass(run: "Run", step: int, times: int) -> bool:
    """Does a pass through the text end in this step whose number is a power of two or one and a half, in a run whose `times`
    measurements are more than a pass apart?"""
    pairs, step_tokens = run.batches.packer.pairs_per_epoch, run.batches.rows * run.batches.packer.row_tokens
    if step_tokens * run.steps <= pairs * times:
        return False
    before, now = (_leading(step_tokens * count // pairs) for count in (step - 1, step))
    return before < now


def _leading(passes: int) -> tuple[int, int]:
    """How many bits a number has, and the first two of them."""
    bits = passes.bit_length()
    return bits, passes >> max(bits - 2, 0)


def planned(run: "Run") -> int:
    """Tokens that the run was planned to read."""
    return run.horizon.planned * run.batches.rows * run.batches.packer.row_tokens


def choose(tokens: "TokenSet", most: int) -> np.ndarray:
    """Documents that hold about `most` tokens: from the whole set evenly, the same at each call."""
    order = np.random.default_rng(0).permutation(len(tokens))
    count = int(np.searchsorted(np.cumsum(tokens.lengths[order]), most, side="right"))
    return np.sort(order[: max(count, 1)])


def pack(tokens: "TokenSet", documents: np.ndarray, row_tokens: int) -> Iterator[Row]:
    """Documents end to end in rows; what the last row lacks is filling: no label (-100), a document of its own."""
    stored = [tokens.document(int(document)) for document in documents]
    columns = [
        np.concatenate([part[:-1] for part in stored]).astype(np.int64),
        np.concatenate([part[1:] for part in stored]).astype(np.int64),
        np.repeat(np.arange(len(stored)), [max(len(part) - 1, 0) for part in stored]).astype(np.int32),
    ]
    for start in range(0, len(columns[0]), row_tokens):
        ids, targets = np.zeros(row_tokens, np.int64), np.full(row_tokens, NO_LABEL, np.int64)
        numbers = np.full(row_tokens, len(stored), np.int32)
        for into, column in zip((ids, targets, numbers), columns, strict=True):
            part = column[start : start + row_tokens]
            into[: len(part)] = part
        yield Row(ids, targets, numbers - numbers[0], np.zeros((0, 3), np.int64))


def pack_whole(tokens: "TokenSet", documents: np.ndarray, row_tokens: int) -> Iterator[Row]:
    """Documents whole in rows, as they are trained on where an objective keeps them so."""
    for row in fit(np.maximum(tokens.lengths[documents] - 1, 0), row_tokens):
        yield whole_row(tokens, [int(documents[at]) for at in row], row_tokens)


def batches(run: "Run", rows: Iterator[Row]) -> Iterator["Batch"]:
    """This process's rows as the objective wants them, with the same randomness at each measurement; as many in each process."""
    made, world = run.batches, run.world
    held = list(rows)
    held += [blank(held[-1])] * (-len(held) % world.size)
    mine = list(enumerate(held))[world.rank :: world.size]
    for start in range(0, len(mine), made.micro_rows):
        part = mine[start : start + made.micro_rows]
        yield made.objective.batch([row for _, row in part], [derive(0, "heldout", number) for number, _ in part])


def blank(row: Row) -> Row:
    """A row of the same length that asks for nothing."""
    return Row(np.zeros_like(row.ids), np.full_like(row.targets, NO_LABEL), np.zeros_like(row.documents), row.origin[:0])


def score(run: "Run", batches: Iterator["Batch"]) -> tuple[float, float, dict[str, float]]:
    """Nats, targets and sums of the objective's other figures over all processes, each scoring its rows."""
    import torch

    nats = targets = 0.0
    beside: Counter[str] = Counter()
    model = run.parallel.model
    model.eval()
    with torch.no_grad():
        for batch in batches:
            nats += float(run.parallel.loss_sum(batch))
            targets += batch.target_count
            beside.update(run.batches.objective.figures())
    model.train()
    names = sorted(beside)
    nats, targets, *sums = run.world.sum([nats, targets, *(beside[name] for name in names)])
    return nats, targets, dict(zip(names, sums, strict=True))
