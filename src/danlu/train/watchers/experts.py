"""Tells which experts the tokens of a mixture go to, so that an idle or a crowded one is seen."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from danlu.core import log
from danlu.core.settings import Named
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher, due

if TYPE_CHECKING:
    from danlu.train.loop import Run


@WATCHERS.register
class Experts(Watcher):
    """An `experts` event now and then; nothing where the model has no experts."""

    class Config(Named):
        """How often."""

        name: Literal["experts"] = "experts"
        times: int = Field(20, ge=0)
        """Events over the run; 0: none."""

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        model = run.parallel.model
        if not hasattr(model, "take_use") or not due(facts.step, run.steps, self.config.times):
            return
        used_LE = model.take_use()
        if used_LE is not None and run.world.first:
            share_LE = used_LE / used_LE.sum(1, keepdim=True)
            log.emit("experts", step=facts.step, share=[[round(share, 5) for share in row] for row in share_LE.tolist()])
