"""Tells what the model answers while it learns from its answers, what they are worth, and how far it has moved."""

from typing import TYPE_CHECKING, Literal

from danlu.core import log
from danlu.core.errors import BadSettings
from danlu.core.settings import Named
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher, due

if TYPE_CHECKING:
    from danlu.train.loop import Run


_FLAT = 3
"""Roll-outs without any signal after which people are told."""


@WATCHERS.register
class Rollouts(Watcher):
    """A `rollout` event for each roll-out, a `policy` event for each step, now and then held-out prompts answered greedily."""

    class Config(Named):
        """How much is told is said where the answers are described (train/answering.py)."""

        name: Literal["rollouts"] = "rollouts"

    def start(self, run: "Run") -> None:
        if not hasattr(run.batches, "held"):
            raise BadSettings(
                "the watcher rollouts looks on where a model learns from its own answers. Leave --watch.heldout out."
            )
        self.told, self.flat = -1, 0
        if run.step == 0:
            self.judge(run)

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        batches = run.batches
        sums = batches.objective.seen()
        names = sorted(set().union(*run.world.gather([*sums])))
        sums = dict(zip(names, run.world.sum([sums.get(name, 0.0) for name in names]), strict=True))
        held, updates = batches.held, batches.settings.updates
        if run.world.first and held is not None:
            if held.fresh and held.number != self.told:
                self.told = held.number
                self.flat = self.flat + 1 if held.figures["dull"] == 1 and batches.objective.rewarded else 0
                if self.flat == _FLAT:
                    log.warn(
                        f"{_FLAT} roll-outs in a row taught nothing: all answers to each prompt were worth the same. Reward what "
                        f"some answers have already, write more of them (--rollouts.answers), or fine-tune first."
                    )
                log.emit("rollout", step=held.number * updates, rollout=held.number, **held.figures)
                for line in batches.shown(held):
                    log.emit("answer", step=held.number * updates, **line)
            tokens = max(sums.pop("tokens", 0.0), 1.0)
            means = {name: value / tokens for name, value in sums.items()}
            log.emit("policy", step=facts.step, age=(facts.step - 1) % updates, **means)
        if due(facts.step, run.steps, batches.settings.judge) or facts.step >= run.steps:
            self.judge(run)

    def judge(self, run: "Run") -> None:
        """Answer held-out prompts with the weights of now."""
        if run.batches.settings.judge and (found := run.batches.judge()) is not None and run.world.first:
            log.emit("judged", step=run.step, **found)
