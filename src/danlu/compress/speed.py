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

_PROMPT, _ANSWER = 16, 48


def measured(before: Model, after: Model, repeats: int = 5) -> dict[str, Any]:
    """Rates of writing, prompt not counted: {before, after}: median, min, max, n, and what computed."""
    models = {"before": before, "after": after}
    engines = {name: _engine(model) for name, model in models.items()}
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


def _engine(model: Model) -> Engine:
    settings = Serving(rows=1)
    runner = choose_runner(model, settings, {})
    known = min(runner.vocab_size, model.tokenizer.vocab_size)
    return Engine(runner, known, Limits(settings.rows, settings.batch_tokens, settings.waiting))


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
