"""The frame around every answer: its request id, headers that keep browsers honest, and a body for errors that nobody caught."""

import json
import re
import time
import traceback
from collections.abc import Callable
from typing import Any

from danlu.core import log
from danlu.server.chance import fresh_id
from danlu.server.errors import ApiError, failed
from danlu.server.limits import HEADER_BYTES
from danlu.server.shapes import body_of

_SANE = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


class Frame:
    """The outermost ASGI layer."""

    def __init__(self, app: Any, done: Callable[[str, int, float], None]):
        """done: hears of each answer's route, status and seconds."""
        self.app, self.done = app, done

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return None
        said = dict(scope["headers"]).get(b"x-request-id", b"")
        known = said if _SANE.fullmatch(said) else fresh_id("req_").encode()
        scope["state"] = {**scope.get("state", {}), "request_id": known.decode()}
        status, started = 0, time.monotonic()

        async def framed(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(b"x-request-id", known), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        try:
            if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > HEADER_BYTES:
                raise ApiError(431, f"The headers are larger than {HEADER_BYTES} bytes.", code="headers_too_large",
                               headers={"connection": "close"})  # fmt: skip
            await self.app(scope, receive, framed)
        except ApiError as error:
            await answer_error(framed, error, scope)
        except Exception:  # a mistake of ours: told to the operator in full, to the client in general
            log.warn(f"{known.decode()}: {scope['method']} {scope['path'][:200]!r} failed: {traceback.format_exc()}")
            if not status:
                await answer_error(framed, failed(), scope)
        finally:
            self.done(route_of(scope), status, time.monotonic() - started)


def route_of(scope: Any) -> str:
    """The declared path that answered, so that no name out of a request becomes a label."""
    return str(getattr(scope.get("route"), "path", "other"))


async def answer_error(send: Any, error: ApiError, scope: Any) -> None:
    """An error as a whole answer."""
    told = body_of(scope["path"], error, scope["state"]["request_id"])
    body = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
