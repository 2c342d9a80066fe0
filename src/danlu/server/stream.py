"""Server-sent events: whole events only, a comment when nothing happens for long, an error object when something fails.

A client that leaves cancels the work. A stream never ends in silence: its last event says why an answer ended, or what failed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response

from danlu.core import log
from danlu.server.errors import ApiError, failed

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


def event(content: Any, name: str | None = None) -> bytes:
    """One event.

    >>> event({"text": "丹"}).decode()
    'data: {"text":"丹"}\\n\\n'
    """
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + b"data: " + data.encode("utf-8", "replace") + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """How a failure in the middle of a stream is told in OpenAI's formats."""
    return event(error.body)


class EventStream(Response):
    """Sends what `source` makes, event by event."""

    def __init__(self, source: AsyncIterator[bytes], *, close: Callable[[], None], ping_s: float,
                 tell: Callable[[ApiError], bytes] = error_event):  # fmt: skip
        """close: called once nobody listens any more, however it ended; tell: a failure as an event."""
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._source, self._close, self._ping_s, self._tell = source, close, ping_s, tell

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        sending = asyncio.ensure_future(self._send(send))
        watching = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((sending, watching), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, watching):
                task.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)
            self._close()

    async def _send(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        following: asyncio.Future[bytes] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(self._source))  # type: ignore[arg-type]
                done, _ = await asyncio.wait((following,), timeout=self._ping_s)
                if not done:
                    await _body(send, PING)
                    continue
                made, following = following, None
                await _body(send, made.result())
        except StopAsyncIteration:
            pass
        except ApiError as error:
            await _body(send, self._tell(error))
        except Exception as error:  # told to the operator in full, to the client in general
            log.warn(f"a stream failed: {type(error).__name__}: {error}")
            await _body(send, self._tell(failed()))
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            await self._source.aclose()  # type: ignore[attr-defined]
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(send: Any, content: bytes) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": True})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
