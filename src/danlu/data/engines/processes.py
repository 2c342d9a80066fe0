"""Several processes on this machine share the shards; each is fed one at a time, so a slow one delays nobody."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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
        """Processes to start; 0 takes one for each core."""

    def __init__(self, config: Any):
        self.config = config

    def measure(self, steps: Steps, work: Sequence[tuple[Shard, Path]]) -> Iterator[Shard]:
        """Measure every shard into its file; yields each as it is done, in any order."""
        count = min(self.config.workers or machine.cores(), len(work))
        if count < 2 or sum(shard.bytes for shard, _ in work) < _SMALL_BYTES:
            yield from Sequential(Sequential.Config()).measure(steps, work)
            return
        workers = [_Worker(steps) for _ in range(count)]
        free: SimpleQueue[_Worker] = SimpleQueue()
        for worker in workers:
            free.put(worker)

        def run(shard: Shard, path: Path) -> Shard:
            worker = free.get()
            try:
                worker.ask(shard, path)
            finally:
                free.put(worker)
            return shard

        pool = ThreadPoolExecutor(count)
        try:
            for done in as_completed([pool.submit(run, shard, path) for shard, path in work]):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.stop()


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
