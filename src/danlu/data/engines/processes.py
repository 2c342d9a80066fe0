"""Several processes on this machine share the shards, this one too; each takes one at a time, so a slow one delays nobody."""

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from pydantic import Field

from danlu.core import errors, machine
from danlu.core.settings import Named
from danlu.data.engines import ENGINES
from danlu.data.engines.sequential import Sequential
from danlu.data.plan import Shard, shard_as_dict
from danlu.data.steps import Steps

_SMALL_BYTES = 16_000_000
"""Less than this a process does sooner than others can start."""


@ENGINES.register
class Processes:
    """Plain child processes: no pickling, no shared state, nothing left behind when the parent dies."""

    class Config(Named):
        name: Literal["processes"] = "processes"
        workers: int = Field(0, ge=0)
        """Processes that work, this one among them; 0 takes one for each core."""

    def __init__(self, config: Any):
        self.config = config

    def measure(self, steps: Steps, work: Sequence[tuple[Shard, Path]]) -> Iterator[Shard]:
        """Measure every shard into its file; yields each as it is done, in any order."""
        count = min(self.config.workers or machine.cores(), len(work))
        if count < 2 or sum(shard.bytes for shard, _ in work) < _SMALL_BYTES:
            yield from Sequential(Sequential.Config()).measure(steps, work)
            return
        todo = deque(work)
        done: SimpleQueue[Shard | Exception] = SimpleQueue()
        workers = [_Worker(steps) for _ in range(count - 1)]
        for worker in workers:
            threading.Thread(target=_feed, args=(worker, todo, done), daemon=True).start()
        mine = Sequential(Sequential.Config()).measure(steps, _taken(todo))
        try:
            for _ in work:
                if done.empty() and (shard := next(mine, None)):
                    yield shard
                else:
                    answer = done.get()
                    if isinstance(answer, Exception):
                        raise answer
                    yield answer
        finally:
            todo.clear()
            for worker in workers:
                worker.stop()


def _taken(todo: deque[tuple[Shard, Path]]) -> Iterator[tuple[Shard, Path]]:
    """One piece of work after another, until all are taken."""
    with suppress(IndexError):
        while True:
            yield todo.popleft()


def _feed(worker: "_Worker", todo: deque[tuple[Shard, Path]], done: SimpleQueue[Shard | Exception]) -> None:
    """Give a child one shard after another."""
    try:
        for shard, path in _taken(todo):
            worker.ask(shard, path)
            done.put(shard)
    except Exception as error:
        done.put(error)


class _Worker:
    """A child process and the pipe to it."""

    def __init__(self, steps: Steps):
        said = steps.model_dump(mode="json", include=set(Steps.model_fields))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "danlu.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._send(said)

    def ask(self, shard: Shard, path: Path) -> None:
        """Have one shard measured. Raises what the worker raised."""
        self._send({"shard": shard_as_dict(shard), "path": str(path)})
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            cause = "killed, most likely for want of memory" if code == -9 else f"ended with code {code}"
            raise errors.DanluError(
                f"a data worker was {cause} at {shard.pieces[0].path}. What is done is kept: run the same command again, with "
                f"fewer workers (--engine.workers 1) if memory is short."
            )
        answer = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"], None) if answer["error"] else None
            if kind is None:
                raise RuntimeError(f"a data worker failed:\n{answer['message']}")
            known: Exception = kind.__new__(kind)
            known.args = (answer["message"],)
            raise known

    def _send(self, said: Any) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(said) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, or its absence, tells

    def stop(self) -> None:
        """End the process now; a file it was writing is not yet there under its name."""
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(BrokenPipeError):  # what was not sent to a dead worker needs no sending
                    pipe.close()
