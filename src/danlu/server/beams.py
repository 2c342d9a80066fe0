"""Answers found by beams in place of drawn ones, behind the face of a generation (generation.py): all come at once."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from danlu.core.errors import AnswerFault, DanluError
from danlu.engine.answer import Delta, PromptRead
from danlu.engine.beam import Beam, BeamsFailed, engine_beams
from danlu.engine.events import TokenEvent
from danlu.engine.job import Job
from danlu.server.errors import from_exception
from danlu.server.generation import fault, finish_of
from danlu.server.models import Served
from danlu.server.service import Service


class BeamGeneration:
    """See Generation: `start`, then iterate `parts`; `close` in any case. The job's choices are the best of the beams."""

    def __init__(self, service: Service, served: Served, job: Job, beams: int, length_penalty: float, early_stopping: Any):
        self._service, self.served, self.job = service, served, job
        self._how = (beams, length_penalty, early_stopping)
        self._left = threading.Event()
        self._search: asyncio.Future[list[Beam]] | None = None
        self.prompt_tokens, self.cached_tokens = len(job.ids), 0
        self.used = [0] * job.choices
        self.last: list[TokenEvent | None] = [None] * job.choices

    def start(self) -> None:
        """Search on a thread of its own."""
        self._search = asyncio.ensure_future(asyncio.to_thread(self._found))

    def _found(self) -> list[Beam]:
        assert self.served.engine is not None
        return engine_beams(self.served.engine, self.job, *self._how, wanted=lambda: not self._left.is_set())

    async def first(self, seconds: float) -> None:
        """There is no first sign: beams are known at the end."""

    async def parts(self) -> AsyncIterator[Delta | PromptRead]:
        """The best beams, best first. Raises ApiError where the search fails."""
        assert self._search is not None
        try:
            found = await self._search
        except BeamsFailed as error:
            raise fault(AnswerFault(error.fault.kind, error.fault.message)) from None
        except DanluError as error:
            raise from_exception(error, {str(self.served.path): self.served.id}) from None
        yield PromptRead(self.prompt_tokens, self.cached_tokens)
        for choice, beam in enumerate(found[: self.job.choices]):
            reason = "eos" if beam.ended else "length"
            self.used[choice] = len(beam.ids)
            self._service.metrics.success.labels(self.served.id, finish_of(reason)).inc()
            text = beam.text(self.served.tokenizer).rstrip("\ufffd")  # half a character at the end is left out, as in any answer
            yield Delta(choice, text, (), reason, used=len(beam.ids))

    def close(self) -> None:
        """Nobody listens any more: the search ends after its step."""
        self._left.set()
