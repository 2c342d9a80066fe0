"""A job under way: submitted, watched, counted, and cancelled as soon as nobody listens any more."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

from danlu.core.errors import AnswerFault, DanluError, QueueFull
from danlu.engine.answer import Delta, PromptRead, Reader
from danlu.engine.events import Event, FaultEvent, TokenEvent
from danlu.engine.job import Job
from danlu.server.errors import ApiError, failed, from_exception, overloaded
from danlu.server.models import Served
from danlu.server.service import Service


class Generation:
    """`start`, then iterate `parts`; `close` in any case."""

    def __init__(self, service: Service, served: Served, job: Job, stops: Sequence[str] = (),
                 shown: Collection[str] = ()):  # fmt: skip
        self._service, self.served, self.job = service, served, job
        self._reader = Reader(served.tokenizer, stops, job.choices, job.ends, job.ids, shown)
        self._came: asyncio.Queue[Event] = asyncio.Queue()
        self._ticket: Any = None
        self._ended = False
        self.prompt_tokens, self.cached_tokens = len(job.ids), 0
        self.used = [0] * job.choices
        """Tokens of each choice so far."""
        self.last: list[TokenEvent | None] = [None] * job.choices
        """The token that each choice ended with so far, also one without text."""
        self._count = _Count(service, served, job)

    def start(self) -> None:
        """Hand the job to the engine. Raises ApiError where it is not taken."""
        loop = asyncio.get_running_loop()

        def listen(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._came.put_nowait, event)

        try:
            assert self.served.engine is not None
            self._ticket = self.served.engine.submit(self.job, listen)
        except DanluError as error:
            if isinstance(error, QueueFull):
                self._service.metrics.rejected.labels(self.served.id).inc()
            raise from_exception(error, {str(self.served.path): self.served.id}) from None

    async def first(self, seconds: float) -> None:
        """Wait until something has come, at most so long. A failure is raised here rather than in the middle of a stream."""
        try:
            async with asyncio.timeout(seconds):
                event = await self._came.get()
        except TimeoutError:
            return
        if isinstance(event, FaultEvent):
            self._fault(event)
        rest = [event]
        while not self._came.empty():
            rest.append(self._came.get_nowait())
        for one in rest:
            self._came.put_nowait(one)

    async def parts(self) -> AsyncIterator[Delta | PromptRead]:
        """What comes, as it comes. Raises ApiError where the request fails."""
        while not self._reader.done:
            event = await self._came.get()
            if isinstance(event, FaultEvent):
                self._fault(event)
            if isinstance(event, TokenEvent):
                self.last[event.choice] = event
                self._count.see(event)
            for made in self._reader.push(event):
                if isinstance(made, PromptRead):
                    self.prompt_tokens, self.cached_tokens = made.prompt_tokens, made.cached_tokens
                else:
                    self.used[made.choice] = max(self.used[made.choice], made.used)
                    if made.stop is not None:
                        self._ticket.cancel(made.choice)  # a stop text has ended it; the engine need not go on
                    if made.reason is not None:
                        self._service.metrics.success.labels(self.served.id, finish_of(made.reason)).inc()
                yield made
        self._ended = True
        self._count.end(sum(self.used))

    def close(self) -> None:
        """Nobody listens any more: rows and blocks are free within one step of the engine."""
        if self._ticket is None:
            return
        if not self._ended:
            self._ended = True
            self._ticket.cancel()
            self._service.metrics.cancelled.labels(self.served.id).inc()
        if self.served.engine is not None:
            self.served.engine.wake()

    def _fault(self, event: FaultEvent) -> None:
        self._ended = True
        self._service.metrics.failed.labels(self.served.id, event.kind).inc()
        raise fault(AnswerFault(event.kind, event.message))


def fault(error: AnswerFault) -> ApiError:
    """What a client is told of a request that failed after it was accepted."""
    message = str(error.args[0])
    match error.kind:
        case "deadline":
            return ApiError(504, f"The server gave up: {message}", type="server_error", code="deadline_exceeded",
                            headers={"x-should-retry": "false"})  # fmt: skip
        case "request":
            return ApiError(400, f"No answer is possible: {message}", code="no_answer")
        case "shutdown":
            return overloaded("The server is stopping.", 5)
        case "capacity":
            return overloaded(f"The server gave up: {message}")
    return failed()


def finish_of(reason: str) -> str:
    """OpenAI's word for why an answer ended."""
    return "length" if reason == "length" else "stop"


class _Count:
    """Times of one request for the metrics."""

    def __init__(self, service: Service, served: Served, job: Job):
        self._metrics, self._model = service.metrics, served.id
        self._begun = time.monotonic()
        self._last: dict[int, float] = {}
        self._first: float | None = None
        self._metrics.choices.labels(self._model).observe(job.choices)
        self._metrics.most.labels(self._model).observe(job.room)
        self._metrics.prompts.labels(self._model).observe(len(job.ids))

    def see(self, event: TokenEvent) -> None:
        """A token has come."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._metrics.first.labels(self._model).observe(now - self._begun)
        if event.choice in self._last:
            self._metrics.between.labels(self._model).observe(now - self._last[event.choice])
        self._last[event.choice] = now

    def end(self, tokens: int) -> None:
        """All answers have ended."""
        now = time.monotonic()
        self._metrics.whole.labels(self._model).observe(now - self._begun)
        self._metrics.answers.labels(self._model).observe(tokens)
        if self._first is not None and tokens > 1:
            self._metrics.per_token.labels(self._model).observe((now - self._first) / (tokens - 1))


Disconnected = Callable[[], Any]


async def until_gone(disconnected: Disconnected, work: Any) -> Any:
    """The result of `work`, which is cancelled when the client leaves. Raises ApiError (499) then."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(disconnected())
    try:
        done, _ = await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        raise ApiError(499, "The client left.", code="client_closed_request")
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
