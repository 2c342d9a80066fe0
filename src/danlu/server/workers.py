"""Work that is no arithmetic and no waiting (templates, tokenizers, compilation), on threads of its own and within seconds.

What does not end in time is told so, and an exception is sent into its thread, which ends whatever runs as Python code.
"""

import asyncio
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from danlu.server.errors import ApiError

R = TypeVar("R")


class TooSlow(BaseException):
    """Arrives in the middle of work whose time is over; no `except Exception` holds it up."""


class Workers:
    """A few threads."""

    def __init__(self, threads: int = 4):
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="danlu-work")

    async def run(self, seconds: float, what: str, work: Callable[..., R], *parts: Any) -> R:
        """The result of work(*parts). Raises ApiError (400) where it takes longer, naming `what` was too slow."""
        task = _Task(work, parts)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(self._pool, task)
        except TimeoutError:
            task.stop()
            raise ApiError(400, f"{what} took longer than {seconds:g} seconds and was given up.", code="too_slow") from None

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Task:
    def __init__(self, work: Callable[..., Any], parts: tuple[Any, ...]):
        self._work, self._parts = work, parts
        self._lock, self._thread, self._stopped = threading.Lock(), None, False  # type: ignore[var-annotated]

    def __call__(self) -> Any:
        with self._lock:
            if self._stopped:
                return None
            self._thread = threading.get_ident()
        try:
            return self._work(*self._parts)
        except TooSlow:
            return None
        finally:
            with self._lock:  # from here no exception can come any more
                self._thread = None

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(TooSlow))
