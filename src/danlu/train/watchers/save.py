"""Keeps checkpoints: every so many seconds or steps, at the end, and at the best held-out loss."""

import time
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from danlu.core.settings import Named
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher

if TYPE_CHECKING:
    from danlu.train.loop import Run


@WATCHERS.register
class Save(Watcher):
    """Decides when; the checkpoints themselves are train/checkpoint.py's."""

    class Config(Named):
        """How often, and how many stay."""

        name: Literal["save"] = "save"
        every_s: float = Field(60.0, gt=0)
        """Seconds between two checkpoints, when `every` is 0."""
        every: int = Field(0, ge=0)
        """Steps between two checkpoints; 0: go by seconds."""
        keep: int = Field(2, ge=1)
        """Checkpoints kept, the last ones; the best by held-out loss stays besides."""
        best: bool = True
        """Also save when the held-out loss is the lowest so far."""

    def start(self, run: "Run") -> None:
        self.last = time.monotonic()
        if run.step == 0 and run.guard.config.action == "rollback":
            run.save()  # somewhere to fall back to

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        if self.config.every:
            due = facts.step % self.config.every == 0
        else:
            due = run.world.any(time.monotonic() - self.last >= self.config.every_s)
        record = self.config.best and run.done.best.get("step") == facts.step
        if due or record or facts.step >= run.steps:
            run.save()
            self.last = time.monotonic()
