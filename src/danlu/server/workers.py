"""Work that is no arithmetic and no waiting (templates, tokenizers, compilation), on threads of its own and within seconds.

Whoever waits is told in time. The thread itself goes on to the end of its work, which has bounds of its own (the sandbox of
templates, the deadline of compilation, the bytes of a text): an exception thrown into it could leave a lock held for ever.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from danlu.server.errors import ApiError, overloaded

R = TypeVar("R")
_QUEUE_S = 30.0
"""How long work may wait for a thread."""


class Workers:
    """A few threads."""

    def __init__(self, threads: int = 4, name: str = "work"):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"danlu-{name}")

    async def run(self, seconds: float, what: str, work: Callable[..., R], *parts: Any) -> R:
        """The result of work(*parts). Seconds count from its beginning. Raises ApiError: 400 where it takes longer, naming `what`
        was too slow; 503 where no thread is free for long. Work whose client leaves before it has begun is dropped."""
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()

        def task() -> R:
            loop.call_soon_threadsafe(begun.set)
            return work(*parts)

        future = loop.run_in_executor(self._pool, task)
        try:
            async with asyncio.timeout(_QUEUE_S):
                await begun.wait()
            async with asyncio.timeout(seconds):
                return await asyncio.shield(future)
        except TimeoutError:
            if not begun.is_set():
                raise overloaded("Too much is being prepared for other requests.", 5) from None
            raise ApiError(400, f"{what} took longer than {seconds:g} seconds and was given up.", code="too_slow") from None
        finally:
            if not future.done():
                future.cancel()  # what has not begun does not begin
                future.add_done_callback(_unheard)

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _unheard(future: "asyncio.Future[Any]") -> None:
    """A failure after everybody has left is nobody's."""
    if not future.cancelled():
        future.exception()
