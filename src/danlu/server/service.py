"""What all routes of one server share: its models, limits, counts, worker threads, and whether it is still taking requests."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danlu.core import log
from danlu.engine.opening import Serving
from danlu.server.errors import overloaded
from danlu.server.limits import Limits
from danlu.server.metrics import Metrics, Row
from danlu.server.models import Models
from danlu.server.workers import Workers

_RATE_S = 10.0


@dataclass(frozen=True)
class Caller:
    """Who asks, and under which number."""

    owner: str
    request_id: str
    applied: bool = False
    """Whether the header x-danlu-applied asked for the block of what was done."""


@dataclass(eq=False)
class Service:
    """One server."""

    models: Models
    limits: Limits = field(default_factory=Limits)
    runs: Path | None = None
    """Root of run folders that may be looked at."""
    guard: Any = None
    """moderations.Guard, where one is configured."""
    feedback: Any = None
    """feedback_api.Desk, where people judge answers."""
    stall_s: float = 60.0
    """An engine with work whose last step ended longer ago is stalled."""

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.engine_rows)
        self.workers = Workers()
        self.readers = Workers(2, "read")
        """For embedders, classifiers and guards, which take long; the threads that prepare chats stay free."""
        self.started = time.time()
        self.draining = False
        self.failed: BaseException | None = None
        self.rates: dict[str, Rates] = {one.id: Rates() for one in self.models.all}

    def open(self, serving: Serving, ready: Callable[[], None] | None = None, failed: Callable[[], None] | None = None) -> None:
        """Open the models on a thread; `failed` holds what went wrong."""

        def work() -> None:
            try:
                self.models.open(serving)
            except BaseException as error:
                self.failed = error
                if failed:
                    failed()
                return
            if ready:
                ready()

        threading.Thread(target=work, name="danlu-open", daemon=True).start()

    def state(self) -> str:
        """ok, loading, draining, stalled or dead: the worst of what holds."""
        states = [one.state(self.stall_s) for one in self.models.all]
        if self.failed is not None or "dead" in states:
            return "dead"
        for state in ("stalled", "loading"):
            if state in states:
                return state
        return "draining" if self.draining else "ok"

    def check_open(self) -> None:
        """Raise ApiError (503) where no new work is taken."""
        if self.draining:
            raise overloaded("The server is stopping and takes no more requests.", 5)

    def drain(self, seconds: float) -> None:
        """Take no more work; what is under way has so many seconds, then ends with an error of its own. Returns at once."""
        if self.draining:
            return
        self.draining = True
        log.say(f"stopping: requests under way have {seconds:g} seconds")
        threading.Thread(target=self.models.close, args=(seconds,), name="danlu-drain", daemon=True).start()

    def close(self) -> None:
        """Stop everything now."""
        self.draining = True
        self.models.close()
        self.workers.close()
        self.readers.close()

    def engine_rows(self) -> Iterator[Row]:
        """The engines' counts under the names of metrics.py."""
        for one in self.models.all:
            if one.engine is not None:
                now = one.engine.status()
                yield one.id, {
                    "num_requests_running": now.running, "num_requests_waiting": now.waiting,
                    "kv_cache_usage_perc": now.blocks_used / now.blocks if now.blocks else 0.0,
                    "engine_alive": float(now.alive), "engine_stalled_seconds": now.stalled_s,
                    "prompt_tokens": now.prompt_tokens, "generation_tokens": now.generated_tokens,
                    "prefix_cache_queries": now.queried_tokens, "prefix_cache_hits": now.found_tokens,
                    "num_preemptions": now.preemptions, "engine_steps": now.steps,
                    "spec_decode_num_draft_tokens": now.drafted_tokens,
                    "spec_decode_num_accepted_tokens": now.accepted_tokens,
                }  # fmt: skip


class Rates:
    """Tokens a second over the last ten seconds, from counts that only grow."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()
        self._lock = threading.Lock()

    def note(self, prompt: int, generated: int, now: float | None = None) -> tuple[float, float]:
        """Take in the counts of this moment; give both rates.

        >>> rates = Rates()
        >>> rates.note(0, 0, 100.0), rates.note(50, 20, 105.0)
        ((0.0, 0.0), (10.0, 4.0))
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            self._seen.append((now, prompt, generated))
            while len(self._seen) > 2 and (self._seen[1][0] <= now - _RATE_S or len(self._seen) > 256):
                self._seen.popleft()
            then, prompt_then, generated_then = self._seen[0]
        spent = now - then
        return ((prompt - prompt_then) / spent, (generated - generated_then) / spent) if spent > 0 else (0.0, 0.0)
