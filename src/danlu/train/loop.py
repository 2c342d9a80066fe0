"""The one training loop, for every objective, optimiser and number of processes.

The order of samples and all randomness are pure functions of (seed, step), so a run that was killed and started again ends
with the same weights. The loop knows time; the objective knows the maths; watchers know the rest.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from danlu.core import log
from danlu.core.errors import Interrupted
from danlu.core.seeds import derive
from danlu.objectives.base import Batch
from danlu.train.batches import Batches
from danlu.train.checkpoint import Checkpoints, Saved, training_state
from danlu.train.culprit import Culprit, find_culprit
from danlu.train.guard import Guard
from danlu.train.horizon import Horizon
from danlu.train.launch import World
from danlu.train.parallel import Parallel, clip
from danlu.train.signals import Stop
from danlu.train.watchers.base import StepFacts, Watcher

BY_HEART = 1.01
"""Times the lowest held-out loss; where a run ends above it, the model has begun to learn its text by heart. The documents are
the same each time, so that a rise is no luck of the draw."""


@dataclass
class Done:
    """What a run has done so far; travels in checkpoints."""

    step: int = 0
    """Steps behind us, those left out included."""
    tokens: int = 0
    """Tokens of text in the steps that moved the weights."""
    targets: int = 0
    """Targets among them; fewer where an objective asks for some only."""
    left_out_tokens: int = 0
    """Tokens of text in the steps that the guard left out."""
    left_out_steps: int = 0
    seconds: float = 0.0
    """Time spent, over all attempts."""
    heldout: dict[str, float] = field(default_factory=dict)
    """The last held-out figures."""
    best: dict[str, float] = field(default_factory=dict)
    """The best held-out figures."""
    taken: int = 0
    """The step whose weights were taken in the end, in place of the last; 0: the last."""


@dataclass
class Run:
    """A run: its parts, and where it stands."""

    parallel: Parallel
    optimiser: Any
    schedule: Any
    batches: Batches
    horizon: Horizon
    checkpoints: Checkpoints
    guard: Guard
    seed: int = 0
    max_norm: float = 1.0
    watchers: Sequence[Watcher] = ()
    stop: Stop = field(default_factory=Stop)
    done: Done = field(default_factory=Done)
    folder: Path | None = None
    weights: Literal["best", "last"] | None = None
    """Which weights stay where a text was learned by heart: those of the lowest held-out loss, or the last. None: nobody asks."""
    resume_hint: str = "run the same command again"
    _since: float = field(default_factory=time.monotonic)

    @property
    def world(self) -> World:
        return self.parallel.world

    @property
    def step(self) -> int:
        return self.done.step

    @property
    def steps(self) -> int:
        """Steps of the whole run, as decided so far."""
        return self.horizon.steps(self.step)

    @property
    def seconds(self) -> float:
        """Time spent on this run, earlier attempts included."""
        return self.done.seconds + time.monotonic() - self._since

    def save(self, wait: bool = False) -> None:
        """Checkpoint the state after the steps done."""
        self.done.seconds, self._since = self.seconds, time.monotonic()
        measured = self.done.heldout.get("loss") if self.done.heldout.get("step") == self.step else None
        facts = {**asdict(self.done), "guard": self.guard.state(), "heldout_loss": measured, "processes": self.world.size}
        self.checkpoints.save(training_state(self.parallel.model, self.optimiser), facts, wait=wait)

    def restore(self, saved: Saved) -> None:
        """Return to a checkpoint."""
        self.checkpoints.load(saved, self.parallel.model, self.optimiser)
        self.done = Done(**{name: saved.facts[name] for name in asdict(self.done) if name in saved.facts})
        self.guard.restore(saved.facts["guard"])
        self._since = time.monotonic()


def train(run: Run) -> None:
    """Go on from where the run stands to its last step. Raises Interrupted (resumable), NotFinite (the guard), NoSpace."""
    for watcher in run.watchers:
        watcher.start(run)
    while run.step < run.steps:
        started = time.monotonic()
        micro = run.batches.step(run.step)
        targets, read, stop = run.world.sum([
            sum(batch.target_count for batch in micro), sum(batch.read_count for batch in micro), run.stop.asked
        ])  # fmt: skip
        if stop:
            _interrupt(run)
        if run.step in run.guard.left_out:
            _leave_out(run, read)
            continue
        torch.manual_seed(derive(run.seed, "step", run.step, run.world.rank))
        nats = torch.zeros((), device=run.world.device)
        for index, batch in enumerate(micro):
            with run.parallel.micro(last=index == len(micro) - 1):
                loss_sum = run.parallel.loss_sum(batch)
                (loss_sum * (run.world.size / targets)).backward()  # divided once: unequal micro-batches weigh fairly
            nats += loss_sum.detach()
        loss = run.world.sum([nats.item()])[0] / targets
        grad_norm = clip(list(run.parallel.model.parameters()), run.max_norm)
        reason = run.guard.judge(loss, grad_norm)
        if reason:
            _heal(run, micro, read, {"reason": reason, "loss": loss, "grad_norm": grad_norm})
        else:
            factor = run.schedule.factor(run.step, run.steps)
            for group in run.optimiser.param_groups:
                group["lr"] = group["base_lr"] * factor
            run.optimiser.step()
            run.done.tokens += int(read)
            run.done.targets += int(targets)
            run.done.step += 1
        run.parallel.after_step(moved=not reason)
        run.optimiser.zero_grad(set_to_none=True)
        rate = run.optimiser.param_groups[0]["lr"]
        facts = StepFacts(run.step, loss, grad_norm, rate, int(read), time.monotonic() - started, sick=bool(reason))
        for watcher in run.watchers:
            watcher.after_step(run, facts)
        _review(run)
    _settle(run)
    for watcher in run.watchers:
        watcher.finish(run)
    run.checkpoints.wait()


def _interrupt(run: Run) -> None:
    run.optimiser.zero_grad(set_to_none=True)
    run.save(wait=True)
    raise Interrupted(f"stopped after step {run.step} of {run.steps}, and saved. To go on, {run.resume_hint}.")


def _leave_out(run: Run, read: float) -> None:
    run.done.step += 1
    run.done.left_out_steps += 1
    run.done.left_out_tokens += int(read)


def _heal(run: Run, micro: list[Batch], read: float, sick: dict[str, Any]) -> None:
    """A sick step: name the culprit, record it, and skip, roll back or stop."""
    run.optimiser.zero_grad(set_to_none=True)
    culprit: Culprit = find_culprit(run.parallel, micro, run.batches.packer.tokens)
    action = run.guard.config.action
    if run.world.first:
        log.emit("guard", step=run.step, **sick, action=action, culprit=str(culprit), culprit_loss=culprit.loss)
        log.warn(f"step {run.step}: {sick['reason']}; {action}. Culprit: {culprit}")
    run.guard.check_patience(sick["reason"], str(culprit))
    run.checkpoints.wait()
    saved = run.checkpoints.latest() if action == "rollback" else None
    if saved is None:
        _leave_out(run, read)
        return
    run.guard.leave_out(range(saved.step, run.step + 1))
    run.world.wait()
    sick_in_a_row = run.guard.sick_in_a_row
    run.restore(saved)
    run.guard.sick_in_a_row = sick_in_a_row  # else a run that falls back for ever would never lose patience


def _review(run: Run) -> None:
    """Under a time budget: correct the number of steps at the fixed points."""
    if run.horizon.due(run.step) and not run.done.step >= run.steps:
        if run.world.first:
            run.horizon.review(run.step, run.seconds, reserve_s=run.done.heldout.get("last_s", 0.0))
        run.horizon.decisions = run.world.tell(run.horizon.decisions)


def _settle(run: Run) -> None:
    """Which weights the run ends with: the last, or, where it learned its text by heart, those of the lowest held-out loss."""
    best, last = run.done.best, run.done.heldout
    if run.weights is None or not best or last["loss"] <= BY_HEART * best["loss"]:
        return
    run.checkpoints.wait()
    saved = run.checkpoints.best() if run.weights == "best" else None
    if saved and saved.step == best["step"]:
        run.checkpoints.load(saved, run.parallel.model)
        run.done.taken, run.done.heldout = saved.step, best
    if run.world.first:
        if run.done.taken:
            log.emit("weights", step=run.done.taken, loss=best["loss"], last_loss=last["loss"])
        stay = f"step {best['step']}, not the last (--weights last)" if run.done.taken else "the last step"
        log.warn(
            f"held-out loss was lowest at step {best['step']} ({best['loss']:.4g}) and ended at {last['loss']:.4g}: the model "
            f"began to learn its text by heart. It has the weights of {stay}. More text helps, or less training (--budget, "
            f"--steps), or a smaller model."
        )
