"""What a request may weigh before anybody looks inside: bytes, headers, time to arrive, depth of its JSON; connections in all.

JSON is read strictly: UTF-8, no NaN or Infinity, no name twice in an object, no lone surrogates, nothing nested too deep.
"""

import asyncio
import json
import math
import socket
from collections.abc import Callable
from typing import Any

from pydantic import Field
from uvicorn.protocols.http.h11_impl import H11Protocol

from danlu.core.settings import Settings
from danlu.server.errors import ApiError, invalid

DEPTH = 64
"""Levels of JSON."""
HEADER_BYTES = 16 * 1024


class Limits(Settings):
    """What the server takes."""

    body_bytes: int = Field(8 << 20, ge=1024)
    """Bytes of a request's body."""
    arrive_s: float = Field(20, gt=0)
    """Seconds within which a request's headers, and then its body, must have arrived."""
    request_s: float = Field(600, gt=0)
    """Seconds after which an answer that is not finished is given up."""
    connections: int = Field(512, ge=1)
    """Connections at the same time; more are closed at once."""
    max_tokens: int = Field(4096, ge=1)
    """Most tokens of an answer whose request does not say."""
    answer_tokens: int = Field(65536, ge=1)
    """Most tokens of all answers to a request together (n times max_tokens)."""
    prepare_s: float = Field(10, gt=0)
    """Seconds that a chat template, a tokenizer or the compilation of a constraint may take."""
    first_s: float = Field(2, ge=0)
    """Seconds that a stream waits for its first token before it sends headers, so that errors have a status."""
    ping_s: float = Field(15, gt=0)
    """A stream in which nothing happens for so long sends a comment, so that nobody cuts it."""


def parse(body: bytes) -> Any:
    """The JSON of a body. Raises ApiError (400) saying what is wrong with it.

    >>> parse(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    try:
        tree = json.loads(body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise invalid(None, "The body is not UTF-8.", "invalid_json") from None
    except RecursionError:
        raise invalid(None, f"The JSON is nested deeper than {DEPTH} levels.", "invalid_json") from None
    except json.JSONDecodeError as error:
        raise invalid(None, f"The body is not JSON: {error.msg} at character {error.pos}.", "invalid_json") from None
    except ValueError:
        raise invalid(None, "The JSON holds a number that is too long.", "invalid_json") from None
    _check_depth(tree)
    if b"\\u" in body and b"\\ud" in body.lower():
        try:
            json.dumps(tree, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise invalid(None, "The JSON holds half a character (a lone surrogate).", "invalid_json") from None
    return tree


def _no_constant(name: str) -> Any:
    raise invalid(None, f"The body is not JSON: {name} is no number there.", "invalid_json")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise invalid(None, "The JSON holds a number that is too large.", "invalid_json")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise invalid(twice[:200], f"'{twice[:200]}' stands twice in an object.", "invalid_json")
    return tree


def _check_depth(tree: Any) -> None:
    level = [tree] if isinstance(tree, dict | list) else []
    for _ in range(DEPTH):
        level = [
            part for branch in level for part in (branch.values() if isinstance(branch, dict) else branch)
            if isinstance(part, dict | list)
        ]  # fmt: skip
        if not level:
            return
    raise invalid(None, f"The JSON is nested deeper than {DEPTH} levels.", "invalid_json")


def check_json_type(content_type: str | None, encoding: str | None) -> None:
    """Raise ApiError unless the body says that it is plain JSON. A browser's form can then never be a request."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise invalid(None, "Send the body as JSON, with the header content-type: application/json.", "invalid_content_type")
    if encoding and encoding.strip().lower() != "identity":
        raise invalid(None, "Compressed bodies are not taken; send the JSON as it is.", "invalid_content_type")


class Body:
    """ASGI layer: the whole body, within its bytes and seconds, before anyone starts to work."""

    def __init__(self, app: Any, limits: Limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return await self.app(scope, receive, send)
        body = await self._whole(scope, receive)
        told = False

        async def replay() -> Any:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    async def _whole(self, scope: Any, receive: Callable[[], Any]) -> bytes:
        said = dict(scope["headers"]).get(b"content-length", b"0")
        most = self.limits.body_bytes
        if not said.isdigit() or len(said) > 15 or int(said) > most:
            raise _too_large(most)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.arrive_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(499, "The client left before its request had arrived.")
                    size += len(message.get("body", b""))
                    if size > most:
                        raise _too_large(most)
                    parts.append(message.get("body", b""))
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise ApiError(408, f"The body did not arrive within {self.limits.arrive_s:g} seconds.", code="request_timeout",
                           headers={"connection": "close", "x-should-retry": "false"}) from None  # fmt: skip


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"The body is larger than {most} bytes.", code="request_too_large", headers={"connection": "close"})


def protocol(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1 with two more rules: no more connections than allowed, and headers must arrive in time."""

    class Watched(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if (line := transport.get_extra_info("socket")) is not None and line.family != getattr(socket, "AF_UNIX", None):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else every small write waits 40 ms for an ACK
            if len(self.connections) > limits.connections:
                self.connections.discard(self)
                transport.abort()
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._unwatch()  # a request has arrived; its body has a time limit of its own
            elif self._late is None and not self.transport.is_closing():
                self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._unwatch()  # from here the keep-alive timer of uvicorn counts

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            self._late = self.loop.call_later(limits.arrive_s, self._close)

        def _unwatch(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _close(self) -> None:
            self._late = None
            self.transport.abort()

    return Watched
