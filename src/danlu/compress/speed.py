"""Tokens a second of one answer, two models in turn, each through the engine that would serve it."""

import queue
import statistics
import time
from typing import Any

from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, Event, FaultEvent, TokenEvent
from danlu.engine.job import Job
from danlu.engine.model import Model
from danlu.engine.opening import Serving, choose_runner
from danlu.engine.request import Sampling
from danlu.engine.scheduler import Limits
from danlu.engine.work import Runner

_PROMPT, _ANSWER = 16, 48


def measured(before: Model, after: Model, repeats: int = 5, runner: Runner | None = None) -> dict[str, Any]:
    """Rates of writing, prompt not counted: {before, after}: median, min, max, n, and what computed.

    runner: what serves the model after, where it is open already.
    """
    models = {"before": before, "after": after}
    engines = {"before": _engine(before, None), "after": _engine(after, runner)}
    rates: dict[str, list[float]] = {name: [] for name in models}
    try:
        for engine in engines.values():
            engine.start()
        for turn in range(repeats + 1):
            for name, engine in engines.items():
                rate = _rate(engine, models[name].context)
                if turn:  # the first warms caches
                    rates[name].append(rate)
    finally:
        for engine in engines.values():
            engine.close()
    return {
        name: {"median": statistics.median(found), "min": min(found), "max": max(found), "n": len(found),
               "kernel": engines[name].runner.kernel}
        for name, found in rates.items()
    }  # fmt: skip


def runner_of(model: Model) -> Runner:
    """What would serve a model here, with room for one answer."""
    return choose_runner(model, Serving(rows=1), {})


def _engine(model: Model, runner: Runner | None) -> Engine:
    runner = runner or runner_of(model)
    limits = Serving(rows=1)
    known = min(runner.vocab_size, model.tokenizer.vocab_size)
    return Engine(runner, known, Limits(limits.rows, limits.batch_tokens, limits.waiting))


def _rate(engine: Engine, context: int) -> float:
    prompt = min(_PROMPT, context // 2)
    room = min(_ANSWER, context - prompt)
    came: queue.SimpleQueue[tuple[float, Event]] = queue.SimpleQueue()
    ids = tuple(int(token) for token in range(engine.known - prompt, engine.known))
    job = Job(ids, Sampling(temperature=0, ignore_eos=True), room)
    engine.submit(job, lambda event: came.put((time.perf_counter(), event)))
    times = []
    while True:
        at, event = came.get()
        if isinstance(event, FaultEvent):
            raise RuntimeError(event.message)
        if isinstance(event, TokenEvent):
            times.append(at)
        elif isinstance(event, EndEvent):
            return (len(times) - 1) / max(times[-1] - times[0], 1e-9)
