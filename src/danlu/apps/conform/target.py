"""The server under test, seen through plain HTTP of the standard library, so that requests may also be wrong."""

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Headers = Mapping[str, str]
QUESTION = [{"role": "user", "content": "Say hello in English, 中文 and with an emoji 😀."}]


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers by lower-case name, body."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError for anything that strict parsers refuse, NaN among it."""
        return read_json(self.body)

    def error(self) -> dict[str, Any]:
        """The error object of the body; {} where the body has none."""
        try:
            body = self.json()
        except ValueError:
            return {}
        error = body.get("error") if isinstance(body, dict) else None
        return error if isinstance(error, dict) else {}

    def __str__(self) -> str:
        return f"{self.status} {self.body[:200].decode('utf-8', 'replace')}"


@dataclass
class Stream:
    """A streamed answer, read to its end."""

    status: int
    headers: Headers
    raw: bytes = b""
    waits_s: list[float] = field(default_factory=list)
    """Seconds before each piece that the network brought."""

    def blocks(self) -> list[str]:
        """The events as text, comments left out."""
        text = self.raw.decode("utf-8")
        return [block for block in text.replace("\r\n", "\n").split("\n\n") if block.strip("\n") and not block.startswith(":")]

    def data(self) -> list[str]:
        """What stands behind `data:` in each event, in order."""
        return [
            "\n".join(line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:"))
            for block in self.blocks()
        ]

    def chunks(self) -> list[dict[str, Any]]:
        """The JSON of each event, `[DONE]` left out."""
        return [read_json(data) for data in self.data() if data != "[DONE]"]

    def reply(self) -> Reply:
        """The same answer, for those that turned out not to be a stream."""
        return Reply(self.status, self.headers, self.raw)


class Target:
    """One server: where it is, the key and the model to use, and what has been seen of it."""

    patience_s = 5.0
    """Within which the work for a client that has left must end."""

    def __init__(self, url: str, api_key: str | None = None, model: str | None = None, timeout_s: float = 60):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http address")
        self.secure, self.host = parts.scheme == "https", parts.hostname
        self.port = parts.port or (443 if self.secure else 80)
        self.prefix = parts.path.rstrip("/").removesuffix("/v1")
        self.api_key, self.timeout_s = api_key, timeout_s
        self.streams: list[Stream] = []
        self._model = model

    @property
    def url(self) -> str:
        """The address without /v1."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.prefix}"

    @property
    def model(self) -> str:
        """The model to ask: the one that was named, else the first that the server lists."""
        if self._model is None:
            listed = self.get("/v1/models")
            self._model = str(listed.json()["data"][0]["id"])
        return self._model

    def get(self, path: str, **more: Any) -> Reply:
        return self.request("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> Reply:
        """POST JSON; bytes go as they are."""
        return self.request("POST", path, body, **more)

    def request(self, method: str, path: str, body: Any = None, *, headers: Headers | None = None, key: bool = True) -> Reply:
        """One request on a connection of its own."""
        with self._connection() as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have said no before it had read all
                connection.request(method, self.prefix + path, encode(body), self.headers(body is not None, headers, key))
            answer = connection.getresponse()
            return Reply(answer.status, lower(answer.headers), answer.read())

    def stream(self, path: str, body: Any) -> Stream:
        """A streamed request, read to its end; the server's stream stays on record for checks that look at all of them."""
        with self._connection() as connection:
            connection.request("POST", self.prefix + path, encode(body), self.headers(True))
            answer = connection.getresponse()
            stream = Stream(answer.status, lower(answer.headers))
            last = time.monotonic()
            while piece := answer.read1(65536):
                stream.raw += piece
                now = time.monotonic()
                stream.waits_s.append(now - last)
                last = now
        if stream.status == 200:
            self.streams.append(stream)
        return stream

    def chat(self, **changes: Any) -> dict[str, Any]:
        """The body of a small chat request, with changes."""
        return {"model": self.model, "messages": QUESTION, "max_tokens": 16, "temperature": 0, **changes}

    def headers(self, body: bool = False, more: Headers | None = None, key: bool = True) -> dict[str, str]:
        """The headers of an ordinary request."""
        own = {"Accept": "*/*"}
        if key and self.api_key:
            own["Authorization"] = f"Bearer {self.api_key}"
        if body:
            own["Content-Type"] = "application/json"
        return {**own, **(more or {})}

    def connect(self) -> socket.socket:
        """A bare connection, for requests that no library would send."""
        plain = socket.create_connection((self.host, self.port), timeout=self.timeout_s)
        if not self.secure:
            return plain
        return ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)

    def head(self, method: str, path: str, **headers: str) -> bytes:
        """The bytes of a request's head; names of headers are given with underscores."""
        lines = {"Host": f"{self.host}:{self.port}", **self.headers(), **{k.replace("_", "-"): v for k, v in headers.items()}}
        return "\r\n".join([f"{method} {self.prefix}{path} HTTP/1.1", *(f"{k}: {v}" for k, v in lines.items()), "", ""]).encode()

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=self.timeout_s)
        try:
            yield connection
        except http.client.HTTPException as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from None
        finally:
            connection.close()


def receive(connection: socket.socket) -> Reply:
    """The answer that comes on a bare connection. Raises ConnectionError where it is none."""
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        return Reply(answer.status, lower(answer.headers), answer.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from None


def encode(body: Any) -> bytes | None:
    """A body as bytes; bytes and nothing stay as they are."""
    return body if body is None or isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by lower-case name."""
    return {name.lower(): value for name, value in headers.items()}


def read_json(text: str | bytes) -> Any:
    """JSON as strict parsers read it. Raises ValueError."""

    def refuse(literal: str) -> None:
        raise ValueError(f"{literal} is no JSON")

    return json.loads(text, parse_constant=refuse)
