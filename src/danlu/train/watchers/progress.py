"""Says how far a run is: loss, tokens per second, time left, memory, use of the machine."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from danlu.core import log
from danlu.core.machine import peak_bytes
from danlu.core.settings import Named
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher

if TYPE_CHECKING:
    from danlu.train.loop import Run


@WATCHERS.register
class Progress(Watcher):
    """A `step` event every few steps, and a line or bar for people."""

    class Config(Named):
        """How often."""

        name: Literal["progress"] = "progress"
        every: int = Field(1, ge=1)
        """Steps between two `step` events."""

    def start(self, run: "Run") -> None:
        self.bar = log.Progress("train", run.steps, "steps")
        self.begun = run.step
        self.tokens = self.seconds = 0.0

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        self.tokens += facts.tokens
        self.seconds += facts.seconds
        if not run.world.first:
            return
        self.bar.total = run.steps - self.begun
        score = run.done.heldout.get("bits_per_byte")
        self.bar.advance(1, f"loss {facts.loss:.3f}" + (f", {score:.3f} bits per byte held out" if score else ""))
        if facts.step % self.config.every == 0 or facts.step >= run.steps:
            rate = self.tokens / max(self.seconds, 1e-9)
            self.tokens = self.seconds = 0.0
            peak = self.tools.peak_flops
            use = {"mfu": rate * self.tools.flops_per_token / peak} if peak else {}
            log.emit("step", step=facts.step, tokens=run.done.tokens, loss=facts.loss, grad_norm=facts.grad_norm, lr=facts.lr,
                     tokens_per_s=rate, seconds=run.seconds, memory_bytes=peak_bytes(), **use)  # fmt: skip

    def finish(self, run: "Run") -> None:
        if run.world.first:
            self.bar.tell(finished=True)
