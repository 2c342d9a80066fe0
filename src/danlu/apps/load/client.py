"""An HTTP client on asyncio streams that takes the time of every piece of an answer, and may leave in the middle.

Connections are kept and used again, as clients of such servers do. Leaves out what a load does not need: redirects, compression,
proxies.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["success", "incomplete", "error", "left", "refused"]
_LIMIT = 1 << 22


@dataclass
class Answer:
    """What one request met. Times are of time.perf_counter."""

    started: float
    outcome: Outcome = "incomplete"
    """success: ended with a reason. incomplete: ended without one, or not within the time. left: we hung up, on purpose.
    refused: a 4xx to a body that was wrong on purpose."""
    ended: float = 0.0
    pieces: list[float] = field(default_factory=list)
    """When each non-empty piece of text came."""
    status: int = 0
    error: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    counted: bool = False
    """Whether the server said how many tokens it wrote; else the pieces are counted."""


class Client:
    """Requests to one server, on as many connections as are under way."""

    def __init__(self, host: str, port: int, secure: bool, headers: Mapping[str, str], timeout_s: float):
        self.host, self.port, self.timeout_s = host, port, timeout_s
        self._context = ssl.create_default_context() if secure else None
        self._head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": f"{host}:{port}", **headers}.items())
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, path: str, body: bytes, *, leave_after: int | None = None, wrong: bool = False) -> Answer:
        """POST and read the answer; leave_after: hang up once so many pieces have come; wrong: a 4xx is what should come."""
        answer = Answer(time.perf_counter())
        try:
            await asyncio.wait_for(self._ask(answer, path, body, leave_after), self.timeout_s)
        except TimeoutError:
            answer.error = f"no end within {self.timeout_s:g} s"
        except (OSError, EOFError, ValueError, LookupError) as error:
            answer.outcome, answer.error = "error", f"{type(error).__name__}: {error}"
        answer.ended = time.perf_counter()
        if wrong and 400 <= answer.status < 500:
            answer.outcome, answer.error = "refused", ""
        elif wrong and answer.outcome != "left":
            answer.outcome, answer.error = "error", f"a wrong body was answered with {answer.status}"
        return answer

    async def get(self, path: str) -> bytes:
        """The body of a GET. Raises ConnectionError for another status than 200."""
        answer, body = Answer(time.perf_counter()), b""
        async with self._request(answer, "GET", path, b"") as pieces:
            async for piece in pieces:
                body += piece
        if answer.status != 200:
            raise ConnectionError(f"{path} answers {answer.status}")
        return body

    async def close(self) -> None:
        """Close the connections that are kept."""
        for _, writer in self._idle:
            writer.close()
        for _, writer in self._idle:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()

    async def _ask(self, answer: Answer, path: str, body: bytes, leave_after: int | None) -> None:
        reason, left, raw = None, False, b""
        async with self._request(answer, "POST", path, body) as pieces:
            async for piece in pieces:
                now = time.perf_counter()
                if answer.status != 200 or b"text/event-stream" not in pieces.kind:
                    raw += piece
                    continue
                raw += piece
                while (end := raw.find(b"\n\n")) >= 0:
                    event, raw = raw[:end], raw[end + 2 :]
                    reason = self._event(answer, event, now) or reason
                if leave_after is not None and len(answer.pieces) >= leave_after:
                    left = pieces.left = True
                    break
        if left:
            answer.outcome = "left"
        elif answer.status != 200:
            answer.outcome, answer.error = "error", f"{answer.status} {raw[:200].decode('utf-8', 'replace')}"
        elif answer.error:
            answer.outcome = "error"
        elif b"text/event-stream" in pieces.kind:
            answer.outcome = "success" if reason else "incomplete"
        else:
            found = json.loads(raw)
            self._count(answer, found)
            answer.outcome = "success" if found["choices"][0].get("finish_reason") else "incomplete"
        if not answer.counted:
            answer.output_tokens = len(answer.pieces)

    def _event(self, answer: Answer, event: bytes, now: float) -> str | None:
        """Note one event of a stream; returns the reason of an end."""
        data = b"".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data or data == b"[DONE]":
            return None
        found = json.loads(data)
        if "error" in found:
            answer.error = str(found["error"])[:200]
            return None
        self._count(answer, found)
        reason = None
        for choice in found.get("choices", ()):
            if said(choice):
                answer.pieces.append(now)
            reason = choice.get("finish_reason") or reason
        return reason

    def _count(self, answer: Answer, found: Mapping[str, Any]) -> None:
        if used := found.get("usage"):
            answer.prompt_tokens, answer.output_tokens, answer.counted = used["prompt_tokens"], used["completion_tokens"], True
            answer.cached_tokens = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0

    @contextlib.asynccontextmanager
    async def _request(self, answer: Answer, method: str, path: str, body: bytes) -> AsyncIterator["_Pieces"]:
        """Send a request; the pieces of its answer's body. The connection is kept if all of it was read."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n".encode()
        reader, writer, pieces = await self._send(head + body)
        answer.status = pieces.status
        try:
            yield pieces
            if pieces.done and not pieces.left and pieces.keeps:
                self._idle.append((reader, writer))
                writer = None
        finally:
            if writer is not None:
                writer.close()

    async def _send(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, "_Pieces"]:
        """Send on a kept connection; on a new one where the server has closed those meanwhile."""
        while True:
            kept = bool(self._idle)
            reader, writer = self._idle.pop() if kept else await self._open()
            try:
                writer.write(request)
                await writer.drain()
                return reader, writer, await _Pieces.begin(reader)
            except (ConnectionError, EOFError):
                writer.close()
                if not kept:
                    raise
            except BaseException:
                writer.close()
                raise

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, ssl=self._context, limit=_LIMIT)


class _Pieces:
    """The body of an answer as the network brings it."""

    def __init__(self, reader: asyncio.StreamReader, status: int, headers: Mapping[bytes, bytes]):
        self._reader, self.status = reader, status
        self.kind = headers.get(b"content-type", b"")
        self.keeps = headers.get(b"connection", b"").lower() != b"close"
        self._chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._length = int(headers[b"content-length"]) if b"content-length" in headers else None
        self.keeps &= self._chunked or self._length is not None
        self.done = self.left = False

    @classmethod
    async def begin(cls, reader: asyncio.StreamReader) -> "_Pieces":
        """Read status and headers. Raises EOFError for none, ValueError for what is no HTTP."""
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.rstrip(b"\r\n").split(b"\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        return cls(reader, int(status.split(b" ")[1]), headers)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._chunked:
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readuntil(b"\r\n")
        elif self._length is not None:
            left = self._length
            while left and (piece := await self._reader.read(min(left, 65536))):
                left -= len(piece)
                yield piece
            if left:
                raise EOFError("the answer ended early")
        else:
            while piece := await self._reader.read(65536):
                yield piece
        self.done = True


def said(choice: Mapping[str, Any]) -> bool:
    """Whether a chunk of a choice holds text (or a piece of a tool call): the chunk with the role does not."""
    delta = choice.get("delta") or choice
    calls = delta.get("tool_calls") or ()
    return bool(delta.get("content") or delta.get("text") or delta.get("reasoning_content")
                or any((call.get("function") or {}).get("arguments") for call in calls))  # fmt: skip
