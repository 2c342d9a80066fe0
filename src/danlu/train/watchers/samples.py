"""Lets the model write while it learns, so that people see what the loss means."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from danlu.core import log
from danlu.core.settings import Named
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher, due

if TYPE_CHECKING:
    from danlu.train.loop import Run


@WATCHERS.register
class Samples(Watcher):
    """A few short texts each time, from the same prompts and seed."""

    class Config(Named):
        """What and how often."""

        name: Literal["samples"] = "samples"
        times: int = Field(4, ge=0)
        """Rounds of samples over the run; 0: none."""
        tokens: int = Field(48, ge=1)
        """Tokens of each sample."""
        prompts: list[str] = Field(default_factory=list)
        """What to go on from; empty: the openings of held-out documents."""

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        if self.tools.generate is None or not run.world.first or not due(facts.step, run.steps, self.config.times):
            return
        run.parallel.model.eval()
        for prompt in self.config.prompts or self.tools.prompts:
            text = self.tools.generate(prompt, self.config.tokens, run.seed)
            log.emit("sample", step=facts.step, prompt=prompt, text=text)
        run.parallel.model.train()
