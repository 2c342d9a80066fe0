"""One attempt at a run, as every stage that trains makes it: who holds the work folder, where events go, how it is stopped.

The first of several processes holds the folder and tells; the others are silent.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from danlu.core import log
from danlu.train.workplace import Workplace

if TYPE_CHECKING:
    from danlu.train.launch import World
    from danlu.train.loop import Run
    from danlu.train.parallel import Parallel
    from danlu.train.signals import Stop


@contextmanager
def attempt(config: Any, place: Workplace, identity: Callable[[], Mapping[str, Any]]) -> "Iterator[tuple[World, Stop]]":
    """The processes of this attempt, and whether someone asks it to stop.

    identity: what makes the run this run and no other; only the first process asks.
    """
    from danlu.train.launch import join
    from danlu.train.signals import stopping

    with ExitStack() as stack:
        world = stack.enter_context(join())
        if world.first:
            stack.enter_context(place.locked())
            place.begin(identity(), config.overwrite)
            stack.enter_context(place.forgotten_if_refused())
            sinks: list[log.Sink] = [log.JsonLines(place.folder / "events.jsonl")]
            sinks += [log.TensorBoard(place.folder / "tensorboard")] if config.watch.tensorboard else []
            stack.enter_context(log.listening(*sinks))
        else:
            stack.enter_context(log.silent())
        yield world, stack.enter_context(stopping())


def new_run(
    config: Any, place: Workplace, parallel: "Parallel", *, optimiser: Any, schedule: Any, batches: Any, steps: int,
    seconds: float | None,
) -> "Run":  # fmt: skip
    """The run before its first step; its own state lies in the work folder."""
    from danlu.train.checkpoint import Checkpoints
    from danlu.train.guard import Guard
    from danlu.train.horizon import Horizon
    from danlu.train.loop import Run

    world = parallel.world
    return Run(
        parallel=parallel, optimiser=optimiser, schedule=schedule, batches=batches, seed=config.seed, max_norm=config.max_norm,
        horizon=Horizon(place.folder / "horizon.json", steps, seconds),
        checkpoints=Checkpoints(place.folder / "checkpoints", world, keep=config.watch.save.keep),
        guard=Guard(config.guard, place.folder / "guard.json", writes=world.first),
        folder=place.folder,
    )  # fmt: skip


def go_on(run: "Run") -> None:
    """Return to the last checkpoint of earlier attempts, where there is one."""
    if saved := run.checkpoints.latest():
        run.restore(saved)
        log.say(f"going on after step {run.step} of {run.steps}")
