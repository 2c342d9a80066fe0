"""Measures a model with a head on held-out samples while it learns: the loss of a target, on all of them or an even part."""

import time
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from danlu.core import log
from danlu.core.settings import Named
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher, due
from danlu.train.watchers.heldout import score

if TYPE_CHECKING:
    from danlu.train.loop import Run


@WATCHERS.register
class Labelled(Watcher):
    """The same samples each time. What the finished model answers is judged at the end, by evaluate/labelled.py."""

    class Config(Named):
        """How often, and on how much."""

        name: Literal["labelled"] = "labelled"
        times: int = Field(10, ge=1)
        """Measurements over the run."""
        samples: int = Field(1000, ge=1)
        """Most held-out samples that a measurement reads."""

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        if self.tools.heldout is not None and (due(facts.step, run.steps, self.config.times) or facts.step >= run.steps):
            self.measure(run)

    def measure(self, run: "Run") -> None:
        """Score the held-out samples in all processes alike and tell."""
        from danlu.train.samples import in_order

        started = time.monotonic()
        made = run.batches
        held = self.tools.heldout
        few = type(held)(held.encoded[:: -(-len(held) // self.config.samples)])
        nats, targets, beside = score(run, in_order(few, made.objective, made.size_of_step, made.row_tokens))
        means = {name: value / max(targets, 1) for name, value in beside.items()}
        figures = {"step": run.step, "tokens": run.done.tokens, "loss": nats / max(targets, 1), "unit": made.objective.unit,
                   **means, "seconds": run.seconds, "documents": len(few), "targets": int(targets)}  # fmt: skip
        run.done.heldout = {**figures, "last_s": time.monotonic() - started}
        if not run.done.best or figures["loss"] <= run.done.best["loss"]:
            run.done.best = run.done.heldout
        if run.world.first:
            log.emit("heldout", **figures)
